//! Rust text with its comments and literals blanked, so that a rule about code is not broken by a sentence about it.

/// The same text, every line and column in place, with spaces for comments, strings and characters.
pub(super) fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut view = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let word = word_len(&bytes[at..]);
        if let Some(hidden) = hidden_len(&bytes[at..], word) {
            blank(&mut view[at..at + hidden]);
            at += hidden;
        } else {
            at += word.max(1);
        }
    }
    String::from_utf8(view).expect("only whole characters were blanked")
}

/// The identifiers and keywords of a code view, with the byte at which each begins.
pub(super) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_other = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    code.split(is_other)
        .filter(|word| word.starts_with(|c: char| !c.is_ascii_digit()))
        .map(move |word| (word.as_ptr() as usize - code.as_ptr() as usize, word))
}

fn blank(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|byte| **byte != b'\n') {
        *byte = b' ';
    }
}

/// Length of the identifier or number at the start; 0 if there is none.
fn word_len(rest: &[u8]) -> usize {
    rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count()
}

/// Length of the comment or literal at the start, if there is one.
fn hidden_len(rest: &[u8], word: usize) -> Option<usize> {
    match (&rest[..word], rest.get(word)?) {
        (b"r" | b"br" | b"cr", _) => raw_string_len(rest, word),
        (b"", b'"') => Some(quoted_len(rest, b'"')),
        (b"", b'\'') => is_char(rest).then(|| quoted_len(rest, b'\'')),
        (b"", b'/') if rest.starts_with(b"//") => Some(find(rest, b"\n").unwrap_or(rest.len())),
        (b"", b'/') if rest.starts_with(b"/*") => Some(block_comment_len(rest)),
        _ => None,
    }
}

/// `r#"…"#` with any number of `#`; none for a raw identifier such as `r#type`.
fn raw_string_len(rest: &[u8], prefix: usize) -> Option<usize> {
    let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
    let open = prefix + hashes + 1;
    if rest.get(open - 1) != Some(&b'"') {
        return None;
    }
    let close = ["\"", &"#".repeat(hashes)].concat();
    Some(find(&rest[open..], close.as_bytes()).map_or(rest.len(), |at| open + at + close.len()))
}

/// Up to and with the closing quote; a backslash hides the byte after it.
fn quoted_len(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// Tells the character `'a'` from the lifetime `'a`.
fn is_char(rest: &[u8]) -> bool {
    let next = rest.get(1).copied().unwrap_or_default();
    let utf8_len = match next {
        0..=0x7f => 1,
        0x80..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xff => 4,
    };
    next == b'\\' || rest.get(1 + utf8_len) == Some(&b'\'')
}

/// Block comments nest.
fn block_comment_len(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (2, 1);
    while at < rest.len() && depth > 0 {
        if rest[at..].starts_with(b"/*") {
            (at, depth) = (at + 2, depth + 1);
        } else if rest[at..].starts_with(b"*/") {
            (at, depth) = (at + 2, depth - 1);
        } else {
            at += 1;
        }
    }
    at
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[test]
fn comments_and_literals_are_blanked_in_place() {
    for (text, code) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"f("\"x", 'y', '\'', b'"') z"#, "f(     ,    ,     , b   ) z"),
        ("f(r#\"a \" b\"#, r\"c\") r#type", "f(          ,     ) r#type"),
        ("fn f<'a>(x: &'a str) -> char { 'é' }", "fn f<'a>(x: &'a str) -> char {      }"),
        ("\"never closed", "             "),
    ] {
        assert_eq!(code_of(text), code, "{text}");
        assert_eq!(code_of(text).len(), text.len());
    }
}

#[test]
fn words_come_with_their_places() {
    let found: Vec<_> = words("fn a1(b: u8) { 2x }").collect();
    assert_eq!(found, [(0, "fn"), (3, "a1"), (6, "b"), (9, "u8")]);
}
