//! The names of variables and what a list looks like in one: `BREVDUE__SECTION__KEY`.

use ::config::Value;

/// How `config` marks what came from there.
pub(in crate::config) const ORIGIN: &str = "the environment";
const PREFIX: &str = "BREVDUE__";
pub(in crate::config) const SEPARATOR: &str = "__";

/// Tables whose keys the operator chooses, as their first and their third part.
const FREE: [(&str, &str); 1] = [("handlers", "env")];

/// A list: a JSON array of texts, or items with commas between.
pub(in crate::config) fn items(text: &str) -> Vec<Value> {
    let texts = serde_json::from_str::<Vec<String>>(text).unwrap_or_else(|_| {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(str::to_owned).collect()
    });
    let origin = ORIGIN.to_owned();
    texts.into_iter().map(|text| Value::new(Some(&origin), text)).collect()
}

/// The path of keys of a variable that is ours. Settings are lower case; the keys of a free table are as they
/// are written, and may have the separator in them.
pub(in crate::config) fn path(name: &str) -> Option<Vec<String>> {
    let prefix = name.get(..PREFIX.len())?;
    let rest = name.get(PREFIX.len()..)?;
    if !prefix.eq_ignore_ascii_case(PREFIX) {
        return None;
    }
    let settings = rest.to_ascii_lowercase();
    let mut parts = settings.splitn(4, SEPARATOR);
    let free = match (parts.next(), parts.nth(1), parts.next()) {
        (Some(top), Some(table), Some(free)) if FREE.contains(&(top, table)) => free.len(),
        _ => 0,
    };
    let at = rest.len() - free;
    let mut path: Vec<String> = settings.get(..at)?.split(SEPARATOR).map(str::to_owned).collect();
    if let Some(last) = path.last_mut().filter(|_| free > 0) {
        // After the separator there is room for the key.
        rest.get(at..)?.clone_into(last);
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &str) -> Vec<String> {
        items(list).into_iter().map(|item| item.into_string().unwrap()).collect()
    }

    #[test]
    fn a_list_is_written_with_commas_or_as_json() {
        assert_eq!(texts("a, b,,c"), ["a", "b", "c"]);
        assert_eq!(texts("[::]:8443,127.0.0.1:1"), ["[::]:8443", "127.0.0.1:1"]);
        assert_eq!(texts(r#"["/bin/sh", "-c", "a,b"]"#), ["/bin/sh", "-c", "a,b"]);
        assert!(texts("").is_empty());
    }

    #[test]
    fn a_variable_names_its_key() {
        assert_eq!(path("BREVDUE__SERVER__MAX_BODY").unwrap(), ["server", "max_body"]);
        assert_eq!(path("brevdue__Log__Level").unwrap(), ["log", "level"]);
        assert_eq!(path("BREVDUE_CONFIG"), None);
        assert_eq!(path("PATH"), None);
    }

    #[test]
    fn keys_of_a_free_table_are_as_they_are_written() {
        for (name, expected) in [
            ("BREVDUE__HANDLERS__X__ENV__API_URL", &["handlers", "x", "env", "API_URL"][..]),
            ("BREVDUE__HANDLERS__X__ENV__Api__Url", &["handlers", "x", "env", "Api__Url"]),
            ("BREVDUE__HANDLERS__X__ENV", &["handlers", "x", "env"]),
            ("BREVDUE__HANDLERS__X__RETRY__MAX", &["handlers", "x", "retry", "max"]),
            ("BREVDUE__HANDLERS__ENV__ENV__A", &["handlers", "env", "env", "A"]),
            ("BREVDUE__SOURCES__X__ENV__A", &["sources", "x", "env", "a"]),
        ] {
            assert_eq!(path(name).unwrap(), expected, "{name}");
        }
    }
}
