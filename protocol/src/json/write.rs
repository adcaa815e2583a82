//! Writing: compact text, with or without sorted keys.
//!
//! Strings are escaped as serde_json does: only what JSON demands, all else as UTF-8.

use std::fmt::Write;

use super::Json;

pub(super) fn to_text(json: &Json, sorted: bool) -> String {
    let mut text = String::new();
    write(&mut text, json, sorted);
    text
}

/// Recursion ends at the depth limit of the reader; values built by hand have the depth of the code that builds them.
fn write(out: &mut String, json: &Json, sorted: bool) {
    match json {
        Json::Null => out.push_str("null"),
        Json::Bool(true) => out.push_str("true"),
        Json::Bool(false) => out.push_str("false"),
        Json::Number(number) => out.push_str(number.as_str()),
        Json::String(text) => write_string(out, text),
        Json::Array(items) => write_array(out, items, sorted),
        Json::Object(members) => write_object(out, members, sorted),
    }
}

fn write_array(out: &mut String, items: &[Json], sorted: bool) {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(out, item, sorted);
    }
    out.push(']');
}

fn write_object(out: &mut String, members: &[(String, Json)], sorted: bool) {
    let mut order: Vec<_> = members.iter().collect();
    if sorted {
        order.sort_by(|(left, _), (right, _)| left.cmp(right));
    }
    out.push('{');
    for (index, (key, value)) in order.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_string(out, key);
        out.push(':');
        write(out, value, sorted);
    }
    out.push('}');
}

/// Appends a JSON string with its quotes.
pub(crate) fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\u{1f}' => write_escape(out, c),
            _ => out.push(c),
        }
    }
    out.push('"');
}

fn write_escape(out: &mut String, c: char) {
    // Invariant: writing to a string cannot fail.
    let _infallible = write!(out, "\\u{:04x}", u32::from(c));
}
