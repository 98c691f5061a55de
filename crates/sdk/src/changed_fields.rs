//! Every field of a document that a change sets: what its sentences do not tell, this shows.

use core::fmt::Debug;
use std::collections::BTreeMap;

/// The fields of a value by their paths, such as `versions[0].order.threshold`, as its `Debug` writes them.
///
/// Taken from `Debug`, and not by hand, so that no field can be forgotten: whoever signs a document relies on it.
/// Documents have no secrets, and ids and keys are written in full.
fn fields(value: &impl Debug) -> BTreeMap<String, String> {
    let text = format!("{value:#?}");
    let mut found = BTreeMap::new();
    // What is open around a line: its name, and how many elements without a name it has had.
    let mut open: Vec<(String, usize)> = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        let bare = line.trim_end_matches(',');
        if matches!(bare, "}" | ")" | "]" | "})" | "])") {
            open.pop();
            continue;
        }
        let begins = line.ends_with(['{', '(', '[']);
        // A field begins with its name; names of types and texts do not look like one.
        let named = line.split_once(": ").filter(|(name, _)| {
            name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        });
        let (name, rest) = match named {
            Some((name, rest)) => (format!(".{name}"), rest),
            None => {
                let number = open.last_mut().map_or(0, |(_, elements)| {
                    *elements += 1;
                    *elements - 1
                });
                (format!("[{number}]"), line)
            }
        };
        if begins {
            // The kind of an enum is a field's value like any other.
            let kind = rest.trim_end_matches(['{', '(', '[']).trim();
            let path = path(&open, &name);
            if !kind.is_empty() && kind != "Some" {
                found.insert(path, kind.to_owned());
            }
            open.push((name, 0));
        } else {
            let mut path = path(&open, &name);
            // Nothing may hide behind another of its name.
            while found.contains_key(&path) {
                path.push('\'');
            }
            found.insert(path, rest.trim_end_matches(',').to_owned());
        }
    }
    found
}

fn path(open: &[(String, usize)], name: &str) -> String {
    // The outermost two are the kind of the document and its struct.
    let inner = open.iter().skip(2).map(|(name, _)| name.as_str());
    let path: String = inner.chain([name]).collect();
    path.trim_start_matches('.').to_owned()
}

/// Every field that differs, in words; of a first version all of them.
pub(crate) fn differing<T: Debug>(before: Option<&T>, after: &T) -> Vec<String> {
    let (old, new) = (before.map(fields).unwrap_or_default(), fields(after));
    let mut said = Vec::new();
    for (path, value) in &new {
        match old.get(path) {
            Some(same) if same == value => {}
            Some(was) => said.push(format!("  {path}: {was} becomes {value}")),
            None => said.push(format!("  {path}: {value}")),
        }
    }
    for (path, value) in old.iter().filter(|(path, _)| !new.contains_key(*path)) {
        said.push(format!("  {path}: no more {value}"));
    }
    said
}

#[cfg(test)]
mod tests {
    #![allow(dead_code, reason = "fields are read by their Debug")]

    use super::*;

    #[derive(Debug, Clone)]
    enum Outer {
        Key(Inner),
    }

    #[derive(Debug, Clone)]
    struct Inner {
        alias: String,
        owner: Option<Place>,
        places: Vec<Place>,
        pair: (u8, u8),
        empty: Vec<u8>,
    }

    #[derive(Debug, Clone)]
    struct Place {
        country: &'static str,
        number: u32,
    }

    fn value() -> Inner {
        let places = vec![Place { country: "DE", number: 1 }, Place { country: "FR", number: 2 }];
        Inner { alias: "a: {\n}".into(), owner: None, places, pair: (1, 2), empty: Vec::new() }
    }

    fn between(change: impl Fn(&mut Inner)) -> Vec<String> {
        let mut after = value();
        change(&mut after);
        differing(Some(&Outer::Key(value())), &Outer::Key(after))
    }

    #[test]
    fn every_field_that_differs_is_said() {
        assert!(between(|_| ()).is_empty());
        assert_eq!(between(|v| v.alias = "b".into()), [r#"  alias: "a: {\n}" becomes "b""#]);
        assert_eq!(between(|v| v.places.swap(0, 1)).len(), 4);
        assert_eq!(between(|v| v.pair.1 = 3), ["  pair[1]: 2 becomes 3"]);
        assert_eq!(between(|v| v.places[1].number = 9), ["  places[1].number: 2 becomes 9"]);
        let owner = between(|v| v.owner = Some(Place { country: "IT", number: 3 }));
        assert!(owner.contains(&r#"  owner[0].country: "IT""#.to_owned()), "{owner:?}");
        assert!(!between(|v| v.empty.push(4)).is_empty());
        assert!(between(|v| v.places.clear()).iter().any(|line| line.contains("no more")));
    }

    #[test]
    fn of_a_first_version_all_fields_are_said() {
        let said = differing(None, &Outer::Key(value())).join("\n");
        for what in ["alias", "owner: None", "places[1].country: \"FR\"", "pair[0]: 1"] {
            assert!(said.contains(what), "{what} in {said}");
        }
    }
}
