//! The environment as a value: credentials of registries and stores come from it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

/// Variables by name. An empty one counts as unset. Shows names only, as values may be secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Of variables of a process; those that are not Unicode are left out.
    pub fn new(variables: &[(OsString, OsString)]) -> Self {
        let text = |(name, value): &(OsString, OsString)| {
            Some((name.to_str()?.to_owned(), value.to_str()?.to_owned()))
        };
        variables.iter().filter_map(text).collect()
    }

    /// The value of a variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// Whether a variable says yes, in one of the ways that MLflow takes.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"))
    }

    /// A copy with those variables that `keep` says yes to, and `added`.
    pub(crate) fn with<'a>(
        &self,
        keep: impl Fn(&str) -> bool,
        added: impl IntoIterator<Item = (&'a str, String)>,
    ) -> Self {
        let kept = self.0.iter().filter(|(name, _)| keep(name));
        let kept = kept.map(|(name, value)| (name.clone(), value.clone()));
        let added = added
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        kept.chain(added).collect()
    }

    /// The variables whose names begin with `prefix`.
    pub fn starting_with<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let set = self.0.iter().filter(|(_, value)| !value.is_empty());
        set.filter(move |(name, _)| name.starts_with(prefix))
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<T: IntoIterator<Item = (N, V)>>(variables: T) -> Self {
        let text = |(name, value): (N, V)| (name.into(), value.into());
        Self(variables.into_iter().map(text).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_variables_are_unset_and_values_are_not_shown() {
        let environment =
            Environment::from_iter([("A", ""), ("B", "s3cret"), ("C", "True"), ("D", "0")]);
        assert_eq!(environment.get("A"), None);
        assert_eq!(environment.get("B"), Some("s3cret"));
        assert!(environment.is_true("C") && !environment.is_true("D"));
        assert_eq!(format!("{environment:?}"), r#"{"A", "B", "C", "D"}"#);
        assert_eq!(environment.starting_with("").count(), 3);
    }
}
