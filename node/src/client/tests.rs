//! A client and a server within one process: what is asked is done, up to every limit and not past it.

use keepwell_protocol::id::BlobId;
use keepwell_protocol::name::RefName;
use keepwell_protocol::uri::BlobUri;
use keepwell_store::audit::Note;
use serde_json::{Value, json};

use super::*;
use crate::api::testing::Served;
use crate::limits::{
    LIST_EVENTS, LIST_REFS, MAX_BATCH_REFS, MAX_COMMIT_ITEMS, MAX_FETCH_ROOTS, MAX_JSON_BODY_BYTES, MAX_LIST_EVENTS,
    MAX_LIST_REFS, MAX_NEW_INGESTS, MAX_STAT_BLOBS, PIECES_AHEAD, SEND_PIECE_BYTES,
};
use crate::service::backend::Backend;
use crate::service::list::Query;
use crate::service::put::{Held, PutOptions};
use crate::service::refs::SetRef;

fn asked(served: &Served, path: &str, body: &Value) -> Result<Value, Failure> {
    served.client.ask_with(Method::POST, path, &[], body)
}

fn put(served: &Served, mut bytes: &[u8]) -> Held {
    let mut silent = |_| ();
    let mut putter = served.client.putter(PutOptions::default(), &mut silent);
    let outcomes = putter.put_stream(0, &mut bytes).unwrap();
    outcomes.into_iter().next().unwrap().unwrap()
}

#[test]
fn json_of_max_json_body_bytes_is_read_and_a_byte_more_is_not() {
    let served = Served::start();
    let send = |bytes: usize| {
        let mut body = br#"{"sha1":[]}"#.to_vec();
        body.resize(bytes, b' ');
        served.client.send(request(Method::POST, "/blobs/stat", &[], full(body)).unwrap()).map(|response| response.status())
    };
    assert_eq!(send(MAX_JSON_BODY_BYTES).unwrap(), StatusCode::OK);
    let refused = send(MAX_JSON_BODY_BYTES + 1).unwrap_err();
    assert_eq!((refused.code, refused.details["limit"].as_u64()), (Code::Usage, Some(MAX_JSON_BODY_BYTES as u64)));
}

#[test]
fn a_stat_has_max_stat_blobs_and_a_client_asks_for_more_in_parts() {
    let served = Served::start();
    let ask = |count: usize| asked(&served, "/blobs/stat", &json!({ "sha1": vec!["00".repeat(20); count] }));
    assert_eq!(ask(MAX_STAT_BLOBS).unwrap()["blobs"].as_array().unwrap().len(), MAX_STAT_BLOBS);
    assert_eq!(ask(MAX_STAT_BLOBS + 1).unwrap_err().code, Code::Usage);
    let many = vec![(BlobId([0; 20]), None); MAX_STAT_BLOBS + 1];
    assert_eq!(served.client.stat(&many).unwrap().len(), MAX_STAT_BLOBS + 1);
    let one = asked(&served, "/blobs/stat", &json!({ "sha1": ["00".repeat(20)], "fields": ["state"] })).unwrap();
    assert_eq!(one["blobs"], json!([{ "state": "unknown" }]));
}

#[test]
fn lists_of_events_come_in_pages_of_list_events_and_at_most_max_list_events() {
    let served = Served::start();
    let noted = served.node.store().write(|txn| {
        let note = || Note::Unlinked { blob: BlobId([1; 20]), attempts: 1 };
        (0..=MAX_LIST_EVENTS).try_for_each(|_| txn.note(1, note()))
    });
    noted.map_err(|error: keepwell_store::error::StoreError| error.to_string()).unwrap();
    let page = |path: &str| {
        let page: Value = served.client.ask(Method::GET, path, &[]).unwrap();
        (page["events"].as_array().unwrap().len(), page["next"].is_string())
    };
    assert_eq!(page("/events"), (LIST_EVENTS, true));
    assert_eq!(page(&format!("/events?limit={MAX_LIST_EVENTS}")), (MAX_LIST_EVENTS, true));
    assert_eq!(page(&format!("/events?limit={MAX_LIST_EVENTS}&cursor=1")), (MAX_LIST_EVENTS, false));
    let too_many = served.client.ask::<Value>(Method::GET, &format!("/events?limit={}", MAX_LIST_EVENTS + 1), &[]);
    assert_eq!(too_many.unwrap_err().code, Code::Usage);
    for follow in [false, true] {
        let mut ids = Vec::new();
        let mut each = |line: crate::service::events::EventLine| {
            ids.push(line.id);
            Ok(())
        };
        served.client.events(Default::default(), follow, &mut each).unwrap();
        assert_eq!((ids.len(), ids.is_sorted()), (MAX_LIST_EVENTS + 1, true));
    }
}

#[test]
fn a_batch_has_max_batch_refs_and_lists_come_in_pages() {
    let served = Served::start();
    let op = |number: usize| json!({ "op": "set", "ref": format!("g/{number:06}"), "obj": {} });
    let batch = |from, to| asked(&served, "/refs/batch", &json!({ "ops": (from..to).map(op).collect::<Vec<_>>() }));
    assert_eq!(batch(0, MAX_BATCH_REFS).unwrap()["refs"].as_array().unwrap().len(), MAX_BATCH_REFS);
    assert_eq!(batch(0, MAX_BATCH_REFS + 1).unwrap_err().code, Code::Usage);
    batch(MAX_BATCH_REFS, MAX_LIST_REFS + 1).unwrap();
    let page = |path: &str| {
        let page: Value = served.client.ask(Method::GET, path, &[]).unwrap();
        (page["refs"].as_array().unwrap().len(), page["next"].is_string())
    };
    assert_eq!(page("/refs"), (LIST_REFS, true));
    assert_eq!(page(&format!("/refs?limit={}", MAX_LIST_REFS + 1)), (MAX_LIST_REFS, true));
    let mut names = Vec::new();
    let next = served.client.list_refs(&Query::default(), &mut |line| {
        names.push(line.key);
        Ok(())
    });
    assert_eq!(next.unwrap(), None);
    assert_eq!((names.len(), names.is_sorted()), (MAX_LIST_REFS + 1, true));
}

#[test]
fn a_batch_is_written_whole_or_not_at_all() {
    let served = Served::start();
    let ops = json!({ "ops": [
        { "op": "set", "ref": "g/a", "obj": { "n": 1 } },
        { "op": "touch", "ref": "g/missing" },
    ]});
    assert_eq!(asked(&served, "/refs/batch", &ops).unwrap_err().code, Code::NotFound);
    let name: RefName = "g/a".parse().unwrap();
    assert!(served.client.object_of(&name).unwrap().is_none());
    // Ops of one request see each other: what the first sets, the second deletes, and the third no longer finds.
    let set_and_delete =
        [json!({ "op": "set", "ref": "g/a", "obj": {}, "if_rev": "none" }), json!({ "op": "delete", "ref": "g/a" })];
    assert!(asked(&served, "/refs/batch", &json!({ "ops": set_and_delete })).is_ok());
    let [set, delete] = set_and_delete;
    let ops = json!({ "ops": [set, delete.clone(), delete] });
    assert_eq!(asked(&served, "/refs/batch", &ops).map_err(|failure| failure.code), Err(Code::NotFound));
    assert_eq!(asked(&served, "/refs/batch", &json!({ "ops": [{ "op": "set", "ref": "g/a" }] })).unwrap_err().code, Code::Usage);
}

#[test]
fn numbers_of_an_object_are_kept_as_they_are() {
    let served = Served::start();
    let name: RefName = "g/numbers é/k".parse().unwrap();
    let obj = r#"{"large":123456789012345678901234567890,"precise":0.10000000000000000000001}"#;
    served.client.set_ref(SetRef::new(name.clone(), obj.to_owned())).unwrap();
    assert_eq!(served.client.get_ref(&name).unwrap().obj.to_compact_sorted(), obj);
}

#[test]
fn max_new_ingests_are_given_at_once() {
    let served = Served::start();
    let ask = |count: usize| asked(&served, &format!("/ingests?count={count}"), &json!({}));
    assert_eq!(ask(MAX_NEW_INGESTS).unwrap()["ingests"].as_array().unwrap().len(), MAX_NEW_INGESTS);
    assert_eq!(ask(MAX_NEW_INGESTS + 1).unwrap_err().code, Code::Usage);
}

#[test]
fn a_commit_has_max_commit_items() {
    let served = Served::start();
    let ask = |count: usize| asked(&served, "/ingests/commit", &json!({ "items": vec![json!({ "base64": "YQ==" }); count] }));
    assert_eq!(ask(MAX_COMMIT_ITEMS).unwrap()["blobs"].as_array().unwrap().len(), MAX_COMMIT_ITEMS);
    assert_eq!(ask(MAX_COMMIT_ITEMS + 1).unwrap_err().code, Code::Usage);
}

#[test]
fn an_ingest_is_committed_once_and_only_if_it_was_given() {
    let served = Served::start();
    let given = asked(&served, "/ingests", &json!({})).unwrap();
    let (id, path) = (given["id"].as_str().unwrap(), given["path"].as_str().unwrap());
    std::fs::write(path, vec![7; 100_000]).unwrap();
    let commit = |id: &str| asked(&served, &format!("/ingests/{id}/commit?label=seven"), &json!({}));
    let line = commit(id).unwrap();
    assert_eq!((line["size_bytes"].as_u64(), served.ingests()), (Some(100_000), 0));
    assert!(line["uri"].as_str().unwrap().ends_with("?label=seven"));
    assert_eq!(commit(id).unwrap_err().code, Code::NotFound);
    assert_eq!(commit(&"0".repeat(32)).unwrap_err().code, Code::NotFound);
    let items = json!({ "items": [{ "ingest": "0".repeat(32) }, { "base64": "YQ==" }, {}] });
    let answers = asked(&served, "/ingests/commit", &items).unwrap();
    assert_eq!(answers["blobs"][0]["error"]["code"], "NOT_FOUND");
    assert_eq!(answers["blobs"][1]["size_bytes"], 1);
    assert_eq!(answers["blobs"][2]["error"]["code"], "USAGE");
}

#[test]
fn a_stream_is_sent_in_pieces_and_read_back_from_any_byte() {
    let served = Served::start();
    for len in [0, 1, SEND_PIECE_BYTES, SEND_PIECE_BYTES + 1, SEND_PIECE_BYTES * (2 * PIECES_AHEAD + 1) + 1] {
        let bytes: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let held = put(&served, &bytes);
        assert_eq!((held.fact.size_bytes, held.existed), (len as u64, false));
        let blob = served.client.open(&BlobUri::labelled(held.fact.sha1, None)).unwrap();
        for start in [0, len / 2, len] {
            let mut read = Vec::new();
            let sink = &mut |piece: &[u8]| {
                read.extend_from_slice(piece);
                Ok(())
            };
            blob.copy_range(start as u64..len as u64, sink).unwrap();
            assert!(read == bytes[start..], "{len} from {start}");
        }
    }
    assert_eq!(served.ingests(), 0);
}

#[test]
fn a_reader_that_stops_is_followed_by_the_next_request() {
    let served = Served::start();
    let held = put(&served, &vec![3; 10 << 20]);
    let blob = served.client.open(&BlobUri::labelled(held.fact.sha1, None)).unwrap();
    let stopped = blob.copy(&mut |_| Err(io::ErrorKind::BrokenPipe.into()));
    assert!(stopped.is_err());
    assert_eq!(served.client.status(None).unwrap().blobs, 1);
}

#[test]
fn a_fetch_is_bounded_at_max_fetch_roots_and_needs_the_network() {
    let served = Served::start();
    let fetch = |count: usize| asked(&served, "/fetch", &json!({ "sha1": vec!["0".repeat(40); count] })).unwrap_err().code;
    assert_eq!(fetch(MAX_FETCH_ROOTS + 1), Code::Usage);
    assert_eq!(fetch(MAX_FETCH_ROOTS), Code::Unreachable);
}
