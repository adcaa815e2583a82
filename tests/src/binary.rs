//! The tree under test and its `keepwell` binary, found beside the test binary and built when it is asked for.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Path of the `keepwell` binary, built from the present tree in the profile of this test run.
///
/// Cargo tells a package the path of its own binaries only, hence the search. `KEEPWELL_BIN` names another binary to test instead.
///
/// # Panics
/// When it does not compile.
pub fn keepwell_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var_os("KEEPWELL_BIN").map_or_else(build, PathBuf::from))
}

/// The root of the repository under test.
///
/// # Panics
/// When the tests no longer lie in the repository.
pub fn repository() -> PathBuf {
    // Cargo says it to each test that it runs. What was compiled in may be another work tree's, whose build folder was copied.
    let tests = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&tests).parent().expect("the tests lie in the repository").to_owned()
}

/// Each test process calls this once; when nothing has changed, cargo answers at once.
fn build() -> PathBuf {
    let profile_dir = profile_dir();
    let target_dir = profile_dir.parent().expect("a profile's folder lies in the target folder");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    // What cargo tells a test of its own package would be news to the build scripts of others: they would run, and compile, again.
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_a_package(&name.to_string_lossy())) {
        build.env_remove(name);
    }
    let built = build
        .args(["build", "--quiet", "-p", "keepwell-node", "--bin", "keepwell", "--profile", profile_of(&profile_dir)])
        .arg("--target-dir")
        .arg(target_dir)
        .current_dir(repository())
        .output()
        .expect("cargo runs the tests, so cargo runs");
    assert!(built.status.success(), "keepwell does not build:\n{}", String::from_utf8_lossy(&built.stderr));
    profile_dir.join("keepwell")
}

fn is_of_a_package(name: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.starts_with(prefix))
}

/// Test binaries lie in `<target>/<profile>/deps`.
fn profile_dir() -> PathBuf {
    let test_binary = std::env::current_exe().expect("a running test has a path");
    test_binary.ancestors().nth(2).expect("a test binary lies two folders deep").to_owned()
}

/// The folder of the `dev` profile is called `debug`; every other bears its profile's name.
fn profile_of(profile_dir: &Path) -> &str {
    match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    }
}
