//! The shape of the files: each says what it is, and none grows beyond what a reader holds in mind.

use super::assert_clean;
use super::tree::{Source, tree};

/// From the line of the `fn` to its closing brace, both counted.
const MAX_FUNCTION_LINES: usize = 80;
const MAX_FILE_LINES: usize = 500;
const MAX_MEDIAN_FILE_LINES: usize = 300;

fn opens_by_saying_what_it_is(source: &Source) -> bool {
    source.text.strip_prefix("//!").is_some_and(|rest| !rest.lines().next().unwrap_or_default().trim().is_empty())
}

/// Every function as (its line, counted from 1; its length in lines). Rests on rustfmt: the closing brace stands under the `fn`.
fn functions(code: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let starts = (0..lines.len()).filter(|at| starts_function(lines[*at]));
    starts.filter_map(|at| Some((at + 1, function_len(&lines[at..])?))).collect()
}

fn starts_function(line: &str) -> bool {
    let is_modifier = |word: &str| matches!(word, "const" | "async" | "unsafe" | "extern" | "$vis") || word.starts_with("pub");
    line.split_whitespace().find(|word| !is_modifier(word)) == Some("fn")
}

/// None for a function without a body, as a trait declares it.
fn function_len(lines: &[&str]) -> Option<usize> {
    let indent = indent_of(lines[0]);
    let same_indent = lines.iter().position(|line| {
        let ends = line.trim_end().ends_with(['}', ';']);
        ends && !line.trim().is_empty() && indent_of(line) == indent
    })?;
    lines[same_indent].trim_end().ends_with('}').then_some(same_indent + 1)
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn long_functions(source: &Source) -> Vec<String> {
    let long = functions(&source.code).into_iter().filter(|(_, len)| *len > MAX_FUNCTION_LINES);
    long.map(|(line, len)| format!("{}:{line}: {len} lines", source.path)).collect()
}

fn file_len(source: &Source) -> usize {
    source.text.lines().count()
}

fn median(mut lengths: Vec<usize>) -> usize {
    lengths.sort_unstable();
    lengths.get(lengths.len() / 2).copied().unwrap_or_default()
}

fn rust_tree() -> Vec<Source> {
    tree().into_iter().filter(Source::is_rust).collect()
}

#[test]
fn every_file_opens_by_saying_what_it_is() {
    let silent = rust_tree().into_iter().filter(|source| !opens_by_saying_what_it_is(source));
    assert_clean("files whose first line is not a `//!` sentence", silent.map(|source| source.path));
}

#[test]
fn no_function_is_too_long() {
    let rule = format!("functions over {MAX_FUNCTION_LINES} lines");
    assert_clean(&rule, rust_tree().iter().flat_map(long_functions));
}

#[test]
fn no_file_is_too_long() {
    let long = rust_tree().into_iter().filter(|source| file_len(source) > MAX_FILE_LINES);
    let rule = format!("files over {MAX_FILE_LINES} lines");
    assert_clean(&rule, long.map(|source| format!("{}: {} lines", source.path, file_len(&source))));
}

#[test]
fn the_median_file_is_short() {
    let median = median(rust_tree().iter().map(file_len).collect());
    assert!(median <= MAX_MEDIAN_FILE_LINES, "the median file has {median} lines");
}

#[test]
fn a_silent_file_is_caught() {
    for text in ["", "fn a() {}\n", "\n//! Late.\n", "//!\n"] {
        assert!(!opens_by_saying_what_it_is(&Source::new("a.rs", text)), "{text:?}");
    }
    assert!(opens_by_saying_what_it_is(&Source::new("a.rs", "//! An a.\n")));
}

#[test]
fn function_lengths_are_counted_to_the_brace_under_the_fn() {
    let code = "\
fn one() {}
pub(crate) const fn two() -> u8 {
    match 1 {
        _ => 2,
    }
}
trait T {
    fn declared(
        a: u8,
    ) -> u8;
    async fn three(
        a: u8,
    ) where
        u8: Copy,
    {
        fn inner() {
        }
    }
}
type Pointer = fn(u8);
";
    assert_eq!(functions(code), [(1, 1), (2, 5), (11, 8), (16, 2)]);
}

#[test]
fn a_long_function_is_caught() {
    let of = |body: usize| Source::new("a.rs", &format!("fn a() {{\n{}}}\n", "    b();\n".repeat(body)));
    assert_eq!(long_functions(&of(MAX_FUNCTION_LINES - 2)), Vec::<String>::new());
    assert_eq!(long_functions(&of(MAX_FUNCTION_LINES - 1)), ["a.rs:1: 81 lines"]);
}

#[test]
fn the_median_is_the_middle() {
    assert_eq!(median(vec![9, 1, 5]), 5);
    assert_eq!(median(Vec::new()), 0);
}
