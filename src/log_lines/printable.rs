//! Text from outside, made safe to look at: in the log, on a terminal, in an error.
//!
//! Owns which characters are shown as escapes. What may be shown at all is for who shows it, and JSON that a program
//! reads goes past this.

/// One line, in which nothing is obeyed and nothing is hidden.
pub fn printable(text: &str) -> String {
    shown(text, |c| c.escape_default().to_string())
}

/// The same for a text of several lines, which the program itself has put one under the other.
pub fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// The same for JSON, which stays the same JSON: what is not shown as it is stands in its texts,
/// where an escape means the same. White space is white space.
pub fn printable_json(json: &str) -> String {
    shown(json, |c| match c {
        '\n' => "\n".to_owned(),
        '\t' | '\r' => " ".to_owned(),
        _ => json_escape(c),
    })
}

/// The same for JSON without white space of its own, as one line.
pub fn printable_json_line(json: &str) -> String {
    shown(json, json_escape)
}

/// Beyond the first 65,536 characters it takes two.
fn json_escape(c: char) -> String {
    let mut units = [0; 2];
    let units = c.encode_utf16(&mut units).iter();
    units.fold(String::new(), |shown, unit| shown + &format!("\\u{unit:04x}"))
}

fn shown(text: &str, escape: impl Fn(char) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_obeyed(c) || is_invisible(c) { out.push_str(&escape(c)) } else { out.push(c) }
    }
    out
}

/// Whether a terminal, or what shows text, does something with it instead of showing it: controls, C1 and DEL among
/// them, and what ends a line.
fn is_obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Whether there is nothing to see of it: what turns the direction of writing, joins, separates or fills without a
/// width, or tags. They are the characters of Unicode's property `Default_Ignorable_Code_Point`, and the marks of
/// interlinear annotation.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(json: &str) -> serde_json::Value {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_is_obeyed_or_invisible_is_shown_and_json_means_the_same() {
        let odd = "a\u{9b}2J\u{7f}\u{202e}\u{2028}å \u{61c}\u{2066}\u{2069}\u{200e}\u{200f}\
                   \u{feff}\u{200b}\u{ad}\u{e0041}\u{fe0f}";
        let expected = r"a\u{9b}2J\u{7f}\u{202e}\u{2028}å \u{61c}\u{2066}\u{2069}\u{200e}\u{200f}";
        let expected = format!(r"{expected}\u{{feff}}\u{{200b}}\u{{ad}}\u{{e0041}}\u{{fe0f}}");
        assert_eq!(printable(odd), expected);
        assert_eq!(printable("a\nb"), r"a\nb");
        assert_eq!(printable_lines("a\u{1b}\nb"), "a\\u{1b}\nb");
        let json = format!("{{\r\n\t\"{odd}\":\t\"{odd}\"}}");
        let shown = printable_json(&json);
        assert!(!shown.contains(|c| c != '\n' && (is_obeyed(c) || is_invisible(c))), "{shown}");
        assert_eq!(read(&shown), read(&json));
        let line = serde_json::to_string(odd).unwrap();
        assert_eq!(read(&printable_json_line(&line)), read(&line));
    }

    #[test]
    fn letters_of_any_script_and_their_marks_stay() {
        for text in ["blåbærsyltetøy", "a\u{30a}", "Δ, ש, ع, 語", "1\u{a0}000 kr", "🐦", ""]
        {
            assert_eq!(printable(text), text);
        }
    }

    proptest! {
        #[test]
        fn what_was_made_printable_stays_as_it_is(text in any::<String>()) {
            let once = printable(&text);
            prop_assert!(!once.contains(|c| is_obeyed(c) || is_invisible(c)), "{once:?}");
            prop_assert_eq!(printable_lines(&once), once);
            let json = serde_json::to_string(&text).unwrap();
            let shown = printable_json_line(&json);
            prop_assert!(!shown.contains(|c| is_obeyed(c) || is_invisible(c)), "{shown:?}");
            prop_assert_eq!(read(&shown), read(&json));
        }
    }
}
