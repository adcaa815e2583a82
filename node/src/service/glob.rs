//! Patterns for ref names: `*` stands for anything within a segment, `**` for anything, `?` for one character.

/// Whether `name` matches `pattern`.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let tokens = tokens(pattern);
    let name: Vec<char> = name.chars().collect();
    // Which prefixes of the name the tokens so far can stand for: no pattern costs more than its length times the name's.
    let mut reachable = vec![false; name.len() + 1];
    reachable[0] = true;
    for token in tokens {
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            let before = at.checked_sub(1).and_then(|at| Some((at, *name.get(at)?)));
            next[at] = match (token, before) {
                (Token::Char(wanted), Some((at, found))) => reachable[at] && wanted == found,
                (Token::One, Some((at, found))) => reachable[at] && found != '/',
                (Token::Segment, Some((before, found))) => reachable[at] || next[before] && found != '/',
                (Token::Any, Some((before, _))) => reachable[at] || next[before],
                (Token::Segment | Token::Any, None) => reachable[at],
                (Token::Char(_) | Token::One, None) => false,
            };
        }
        reachable = next;
    }
    reachable[name.len()]
}

/// What every match begins with.
pub(super) fn literal_prefix(pattern: &str) -> &str {
    let end = pattern.find(['*', '?']).unwrap_or(pattern.len());
    &pattern[..end]
}

#[derive(Debug, Clone, Copy)]
enum Token {
    Char(char),
    One,
    Segment,
    Any,
}

fn tokens(pattern: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for letter in pattern.chars() {
        match (letter, tokens.last_mut()) {
            ('*', Some(last @ Token::Segment)) => *last = Token::Any,
            ('*', Some(Token::Any)) => {}
            ('*', _) => tokens.push(Token::Segment),
            ('?', _) => tokens.push(Token::One),
            (letter, _) => tokens.push(Token::Char(letter)),
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stop_at_slashes_and_double_stars_do_not() {
        for (pattern, name, expected) in [
            ("lab/x", "lab/x", true),
            ("lab/x", "lab/xy", false),
            ("lab/*", "lab/x", true),
            ("lab/*", "lab/a/x", false),
            ("lab/**", "lab/a/x", true),
            ("**/x", "lab/a/x", true),
            ("*/x", "lab/x", true),
            ("lab/*/raw", "lab/a/raw", true),
            ("lab/?", "lab/ü", true),
            ("lab?x", "lab/x", false),
            ("**", "a/b/c", true),
            ("", "a/b", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        assert_eq!(literal_prefix("lab/r*w"), "lab/r");
    }

    #[test]
    fn a_hostile_pattern_ends() {
        assert!(!matches(&"*a".repeat(50), &"a/".repeat(500)));
    }
}
