//! docs/SAFETY.md and the code speak of the same invariants: a number that code cites is defined, a test that the page names exists.

use std::collections::BTreeSet;

use super::assert_clean;
use super::code_view::words;
use super::tree::{Source, tree};

const PAGE: &str = "docs/SAFETY.md";
/// How a sentence of the page begins that names the tests of an invariant.
const TESTS: &str = "- Shown by:";

/// The numbers that the page defines, in the order of the page: lines that begin with `**S1**`.
fn defined(page: &str) -> Vec<u32> {
    page.lines().filter_map(|line| line.strip_prefix("**S")?.split_once("**")?.0.parse().ok()).collect()
}

/// The numbers cited in a text as `SAFETY.md S1`, `SAFETY.md S1, S2 and S3`, or over a line end.
fn cited(text: &str) -> Vec<u32> {
    text.split("SAFETY.md").skip(1).flat_map(numbers_at_start).collect()
}

fn numbers_at_start(rest: &str) -> impl Iterator<Item = u32> {
    let words = rest.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let joins = |word: &str| matches!(word, "and" | "or" | "to" | "invariant" | "invariants");
    words.map_while(move |word| if joins(word) { Some(None) } else { Some(Some(number(word)?)) }).flatten()
}

fn number(word: &str) -> Option<u32> {
    word.strip_prefix('S')?.parse().ok()
}

/// What the page lacks: a number cited elsewhere, or one left out of 1, 2, 3….
fn undefined(page: &str, others: &[&Source]) -> Vec<String> {
    let defined = defined(page);
    let gaps = (1..).zip(&defined).filter(|(expected, number)| expected != *number);
    let gaps = gaps.map(|(expected, number)| format!("{PAGE}: S{number} where S{expected} was due"));
    let unknown = others.iter().flat_map(|source| cited(&source.text).into_iter().map(|number| (&source.path, number)));
    let unknown = unknown.filter(|(_, number)| !defined.contains(number)).map(|(path, number)| format!("{path}: S{number}"));
    gaps.chain(unknown).collect()
}

/// Tests that the page names in backticks and that no file has.
fn missing_tests(page: &str, others: &[&Source]) -> Vec<String> {
    let functions: BTreeSet<&str> = others.iter().flat_map(|source| words(source.test_code())).map(|(_, word)| word).collect();
    let lines = page.lines().filter_map(|line| line.strip_prefix(TESTS).or(line.strip_prefix("| ")));
    let named = lines.flat_map(|line| line.split('`').skip(1).step_by(2));
    let missing = named.filter(|name| !functions.contains(name.rsplit("::").next().unwrap_or_default()));
    missing.map(|name| format!("{PAGE}: {name}")).collect()
}

/// This file cites numbers that do not exist, to show that they are caught.
fn page_and_others(tree: &[Source]) -> (&str, Vec<&Source>) {
    let page = tree.iter().find(|source| source.path == PAGE).map(|source| source.text.as_str());
    let others = tree.iter().filter(|source| source.path != PAGE && source.path != "tests/tests/tidy/invariants.rs");
    (page.unwrap_or_default(), others.collect())
}

#[test]
fn every_cited_invariant_is_defined() {
    let tree = tree();
    let (page, others) = page_and_others(&tree);
    assert_clean("invariants cited but not defined", undefined(page, &others));
}

#[test]
fn every_test_that_the_page_names_exists() {
    let tree = tree();
    let (page, others) = page_and_others(&tree);
    assert_clean("tests named but not there", missing_tests(page, &others));
}

#[test]
fn an_undefined_invariant_is_caught() {
    let page = "# Safety\n**S1** One.\n**S2** Two, unlike S9.\n";
    let source = |text: &str| Source::new("store/src/a.rs", text);
    let good = source("// docs/SAFETY.md S1, and `SAFETY.md`\n/// S2: so. S7");
    assert_eq!(undefined(page, &[&good]), Vec::<String>::new());
    let bad = source("// (docs/SAFETY.md S1 and S3). See SAFETY.md invariant S4");
    assert_eq!(undefined(page, &[&bad]), ["store/src/a.rs: S3", "store/src/a.rs: S4"]);
    assert_eq!(undefined("**S1** a\n**S3** b\n", &[]), ["docs/SAFETY.md: S3 where S2 was due"]);
}

#[test]
fn a_test_that_does_not_exist_is_caught() {
    let tests = Source::new("store/src/a.rs", "#[cfg(test)]\nmod tests {\n    fn it_holds() {}\n}\n");
    let page = "- Shown by: `store::tests::it_holds`, `it_fails`; others to come\n- Carried by: `Permit`\n";
    assert_eq!(missing_tests(page, &[&tests]), ["docs/SAFETY.md: it_fails"]);
}
