//! The names of variables and what a list looks like in one: `BREVDUE__SECTION__KEY`.

use ::config::Value;

/// How `config` marks what came from there.
pub(in crate::config) const ORIGIN: &str = "the environment";
const PREFIX: &str = "BREVDUE__";
pub(in crate::config) const SEPARATOR: &str = "__";

/// The variable that sets the key.
pub(in crate::config) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', SEPARATOR).to_ascii_uppercase())
}

/// A list: a JSON array of texts, or items with commas between.
pub(in crate::config) fn items(text: &str) -> Vec<Value> {
    let texts = serde_json::from_str::<Vec<String>>(text).unwrap_or_else(|_| {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(str::to_owned).collect()
    });
    let origin = ORIGIN.to_owned();
    texts.into_iter().map(|text| Value::new(Some(&origin), text)).collect()
}

/// The key of a variable that is ours.
pub(in crate::config) fn key(name: &str) -> Option<String> {
    let prefix = name.get(..PREFIX.len())?;
    let rest = name.get(PREFIX.len()..)?;
    prefix.eq_ignore_ascii_case(PREFIX).then(|| rest.to_ascii_lowercase())
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
    fn a_key_names_its_variable() {
        assert_eq!(variable("server.max_body"), "BREVDUE__SERVER__MAX_BODY");
        assert_eq!(key("BREVDUE__SERVER__MAX_BODY").unwrap(), "server__max_body");
        assert_eq!(key("BREVDUE_CONFIG"), None);
        assert_eq!(key("PATH"), None);
    }
}
