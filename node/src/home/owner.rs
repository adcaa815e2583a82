//! What the user at this machine is called where something has an owner.

use std::os::unix::fs::MetadataExt;

use keepwell_protocol::name::OwnerName;

/// User and machine, `ann@gpu-01`: the name that the environment gives the user, else the user's number.
///
/// It tells people's programs apart. It is no proof of anything: who can reach the home may take any name.
pub fn of_this_process() -> OwnerName {
    let named = ["USER", "LOGNAME"].into_iter().filter_map(|name| std::env::var(name).ok()).find(|user| !user.is_empty());
    let user = named.or_else(|| Some(user_of_this_process().ok()?.to_string()));
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    OwnerName::of_user(user.as_deref().unwrap_or("user"), host.split('.').next().unwrap_or_default())
}

/// The number of the user that this process runs as.
pub fn user_of_this_process() -> std::io::Result<u32> {
    Ok(std::fs::metadata("/proc/self")?.uid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_one_name_with_the_machine_in_it() {
        let owner = of_this_process();
        assert_eq!(OwnerName::parse(owner.as_str()).unwrap(), owner);
        assert_eq!(of_this_process(), owner);
        assert!(owner.as_str().split_once('@').is_some_and(|(user, _)| !user.is_empty()), "{owner}");
    }
}
