//! What stands behind the `?` of a request: names and values, some of them more than once.

use std::str::FromStr;

use percent_encoding::percent_decode_str;

use crate::failure::Failure;

/// The names and values, decoded, in order. Without a `=` there is no value.
#[derive(Debug, Default)]
pub(super) struct Pairs(Vec<(String, Option<String>)>);

impl Pairs {
    /// Reads a query. A name that is not in `known` is refused: it is mistyped, or meant for another version.
    ///
    /// A known name that ends with a dot stands for all names that begin so.
    pub(super) fn parse(query: Option<&str>, known: &[&str]) -> Result<Pairs, Failure> {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').map_or((pair, None), |(name, value)| (name, Some(value)));
            Ok((decode(name)?, value.map(decode).transpose()?))
        });
        let pairs = pairs.collect::<Result<Vec<_>, Failure>>()?;
        let is_known = |name: &str| known.iter().any(|known| name == *known || known.ends_with('.') && name.starts_with(known));
        match pairs.iter().find(|(name, _)| !is_known(name)) {
            Some((name, _)) => Err(Failure::usage(format!("the parameter {name:?} is not known here"))
                .hint(format!("known are: {}", known.join(" ")))),
            None => Ok(Pairs(pairs)),
        }
    }

    /// The value of a name that may be given once.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, Failure> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(Failure::usage(format!("the parameter {name:?} is given twice")).hint("give it once")),
            (value, None) => Ok(value),
        }
    }

    /// The value, read as what it shall be.
    pub(super) fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>, Failure>
    where
        T::Err: std::fmt::Display,
    {
        let value = self.one(name)?.map(str::parse).transpose();
        value.map_err(|error| Failure::usage(format!("the parameter {name:?}: {error}")))
    }

    /// The values of a name that may be given more than once.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_deref().unwrap_or_default())
    }

    /// Whether a name that takes no value but `1` and `0` is given.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Failure> {
        match self.one(name)? {
            None | Some("0") => Ok(false),
            Some("1" | "") => Ok(true),
            Some(other) => Err(Failure::usage(format!("the parameter {name:?} is 1 or 0, not {other:?}"))),
        }
    }

    /// The rests of the names that begin with `prefix`, with their values.
    pub(super) fn below(&self, prefix: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?, value.as_deref())))
    }
}

fn decode(text: &str) -> Result<String, Failure> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(|text| text.into_owned()).map_err(|_| Failure::usage("a parameter is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_decoded() {
        let pairs = Pairs::parse(Some("label=a+b%2Fc&link=1&link=2&meta.k=v&meta.l&empty"), &["label", "link", "meta.", "empty"])
            .unwrap();
        assert_eq!(pairs.one("label").unwrap(), Some("a b/c"));
        assert_eq!(pairs.all("link").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(pairs.below("meta.").collect::<Vec<_>>(), [("k", Some("v")), ("l", None)]);
        assert_eq!(pairs.one("empty").unwrap(), Some(""));
        assert!(pairs.one("link").is_err());
        assert_eq!((pairs.flag("empty").unwrap(), pairs.flag("absent").unwrap()), (true, false));
        assert!(pairs.flag("label").is_err());
        assert!(pairs.parsed::<u64>("label").is_err());
    }

    #[test]
    fn a_name_that_nobody_reads_is_refused() {
        assert!(Pairs::parse(Some("lable=a"), &["label"]).is_err());
        assert!(Pairs::parse(None, &[]).is_ok());
    }
}
