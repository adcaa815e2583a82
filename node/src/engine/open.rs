//! Making a home, and starting on one: which boot writes.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::catalog::member::{NetworkBody, NodeBody, Role};
use keepwell_protocol::id::{BootId, NetworkId, NodeId, StorageId};
use keepwell_protocol::log::entry::node_id;
use keepwell_protocol::log::vector::Chain;
use keepwell_protocol::name::{NetworkName, NodeName};
use keepwell_protocol::wire;
use keepwell_store::error::StoreError;
use keepwell_store::home::{DiskPlace, Home, HomeBoot};
use keepwell_store::store::{Store, Transaction};
use rand_chacha::rand_core::Rng;

use super::author::{Batch, OwnWrite};
use super::clock::Clock;
use super::leases::LeaseClock;
use super::links::unlinking::Unlinks;
use super::patience::Patience;
use super::pressure::Pressing;
use super::uses::Uses;
use super::{Absence, Arrivals, Collector, Copies, Dropping, Engine, EngineRng, Replication, Settings, Step};

/// Why a home cannot be started on.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its index was never written to.
    #[error("this home was not made to its end")]
    NotMade,
    /// Its key is another node's.
    #[error("the key of this home belongs to node {found}, its index to node {expected}")]
    WrongKey {
        /// Whose key it is.
        found: NodeId,
        /// Whose index it is.
        expected: NodeId,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a new home is told about itself.
#[derive(Debug, Clone)]
pub struct NewHome {
    /// What the network is called.
    pub network: NetworkName,
    /// What the node is called.
    pub node: NodeName,
    /// Where its index lies.
    pub place: DiskPlace,
}

impl Engine {
    /// Makes a home with a private network of one, whose admin it is.
    pub fn init(store: Arc<Store>, key: SigningKey, new: &NewHome, rng: &mut EngineRng) -> Result<Engine, StoreError> {
        let node = node_id(&key);
        let network = NetworkBody { name: new.network.to_string(), creator: node, salt: draw(rng) };
        let storage = StorageId(draw(rng));
        let boot = Some(begin_boot(&node, new.place, rng));
        let engine = Engine::on(store, key, Home { network: network.id(), node, storage, boot });
        let itself = NodeBody { name: new.node.to_string(), role: Role::Admin, storage };
        let store = Arc::clone(&engine.store);
        store.write(|txn| {
            txn.put_home(&engine.home)?;
            engine.write_item(txn, Item::network(), wire::encode(&network))?;
            engine.write_item(txn, Item::node(&node), wire::encode(&itself))
        })?;
        Ok(engine)
    }

    /// Starts on a home. One that lies elsewhere than when it last wrote has been copied or restored: it begins a new boot, so that
    /// no position of its log is ever written twice.
    pub fn open(store: Arc<Store>, key: SigningKey, place: DiskPlace, rng: &mut EngineRng) -> Result<Engine, OpenError> {
        let mut home = store.snapshot()?.home()?.ok_or(OpenError::NotMade)?;
        let found = node_id(&key);
        if found != home.node {
            return Err(OpenError::WrongKey { found, expected: home.node });
        }
        if home.boot.as_ref().is_none_or(|boot| boot.place != place) {
            home.boot = Some(begin_boot(&home.node, place, rng));
            store.write(|txn| txn.put_home(&home))?;
        }
        Ok(Engine::on(store, key, home))
    }

    /// Makes a home in a network that has invited it. It knows nothing yet, not even that it is a member.
    pub fn join(
        store: Arc<Store>,
        key: SigningKey,
        network: NetworkId,
        place: DiskPlace,
        rng: &mut EngineRng,
    ) -> Result<Engine, StoreError> {
        let node = node_id(&key);
        let home = Home { network, node, storage: StorageId(draw(rng)), boot: Some(begin_boot(&node, place, rng)) };
        store.write(|txn| txn.put_home(&home))?;
        Ok(Engine::on(store, key, home))
    }

    fn on(store: Arc<Store>, key: SigningKey, home: Home) -> Engine {
        Engine {
            store,
            key,
            home,
            replication: Replication::default(),
            collector: Collector::default(),
            dropping: Dropping::default(),
            pressing: Pressing::default(),
            patience: Patience::default(),
            absence: Absence::default(),
            arrivals: Arrivals::default(),
            copies: Copies::default(),
            leases: LeaseClock::default(),
            uses: Uses::default(),
            unlinking: Unlinks::default(),
            clock: Clock::default(),
            is_index_damaged: false,
            index_whole_ms: 0,
            settings: Settings::default(),
        }
    }

    /// The chain that this node writes now.
    pub(super) fn own_chain(&self) -> Result<Chain, StoreError> {
        let boot = self.home.boot.as_ref().ok_or_else(|| StoreError::Inconsistent("this home has no boot".into()))?;
        Ok(Chain { node: self.home.node, boot: boot.id })
    }

    /// Leaves the present boot for a new one, in the same place.
    pub(super) fn begin_boot(&mut self, step: &mut Step<'_, '_>) -> Result<(), StoreError> {
        let old = self.home.boot.as_ref().ok_or_else(|| StoreError::Inconsistent("this home has no boot".into()))?;
        self.home.boot = Some(begin_boot(&self.home.node, old.place, step.rng));
        self.dropping.begin_again();
        step.txn.put_home(&self.home)
    }

    fn write_item(&self, txn: &mut Transaction<'_>, item: Item, body: Vec<u8>) -> Result<(), StoreError> {
        self.author(txn, Batch { writes: vec![OwnWrite { item, body: Some(body) }], ..Batch::default() }).map(drop)
    }
}

fn begin_boot(node: &NodeId, place: DiskPlace, rng: &mut EngineRng) -> HomeBoot {
    let nonce = draw(rng);
    HomeBoot { id: BootId::of(node, &nonce), nonce, place }
}

/// Random bytes.
pub(super) fn draw<const N: usize>(rng: &mut EngineRng) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}
