//! PEM (RFC 7468), read whole or refused.
//!
//! Owns that no block of a text is passed over: whatever looks like the beginning or the end of one is one,
//! or the text is refused with the line and a cure. Text between blocks is let stand, as OpenSSL writes it.
//! What a block means is for who asked.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";
/// It is told, so it is a plain word or some.
const LONGEST_LABEL: usize = 64;
/// RFC 1421's header of a block under a password.
const PROC_TYPE: &str = "Proc-Type:";
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One block. Not `Debug`: it may be a private key.
pub struct Block {
    /// What stands after BEGIN.
    pub label: String,
    /// Its content.
    pub der: Vec<u8>,
    /// Where it begins, from 1.
    pub line: usize,
}

/// Why a text is not read. Never has anything of the text in it but a label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemFault {
    /// Line breaks as two characters each.
    #[error(
        "has its line breaks written as \\n on line {line}: make real ones (printf '%b' \"$TEXT\" > \
         FILE)"
    )]
    EscapedBreaks {
        /// Where.
        line: usize,
    },
    /// Two marks on one line, or a mark and its content.
    #[error(
        "has BEGIN or END and something else on line {line}: put a line break between them (files \
         were joined, or their line breaks lost)"
    )]
    Joined {
        /// Where.
        line: usize,
    },
    /// Other dashes than five, or other characters.
    #[error(
        "has a BEGIN or END on line {line} that is not between five plain dashes on either side: \
         write it as -----BEGIN …-----"
    )]
    Dashes {
        /// Where.
        line: usize,
    },
    /// BEGIN without END.
    #[error("begins {label} on line {line} and does not end it: it is cut off, get it anew")]
    NoEnd {
        /// What.
        label: String,
        /// Where it begins.
        line: usize,
    },
    /// END without BEGIN.
    #[error("ends {label} on line {line}, which did not begin: its beginning is lost, get it anew")]
    NoBegin {
        /// What.
        label: String,
        /// Where.
        line: usize,
    },
    /// Not base64.
    #[error("has {label} on line {line} that is not base64: it is damaged, get it anew")]
    Base64 {
        /// What.
        label: String,
        /// Where it begins.
        line: usize,
    },
    /// A block under a password.
    #[error(
        "has an encrypted key on line {line}, and nobody is there to type its password: decrypt it \
         (openssl pkey -in FILE -out NEW.pem)"
    )]
    Encrypted {
        /// Where it begins.
        line: usize,
    },
}

/// What a line is.
enum Line<'t> {
    Begin(&'t str),
    End(&'t str),
    Other,
}

/// Every block of a text, in order.
pub fn blocks(text: &str) -> Result<Vec<Block>, PemFault> {
    let mut blocks = Vec::new();
    let mut lines = (1..).zip(text.lines().map(str::trim));
    while let Some((line, text)) = lines.next() {
        match mark(text, line)? {
            Line::Begin(label) => blocks.push(block(label, line, &mut lines)?),
            Line::End(label) => return Err(PemFault::NoBegin { label: label.to_owned(), line }),
            Line::Other => {}
        }
    }
    Ok(blocks)
}

fn block<'t>(
    label: &str,
    line: usize,
    lines: &mut impl Iterator<Item = (usize, &'t str)>,
) -> Result<Block, PemFault> {
    let encrypted = label == "ENCRYPTED PRIVATE KEY";
    let label = label.to_owned();
    let mut content = String::new();
    for (at, text) in lines {
        match mark(text, at)? {
            Line::Begin(_) => return Err(PemFault::NoEnd { label, line }),
            Line::End(ended) if ended != label => return Err(PemFault::NoEnd { label, line }),
            Line::End(_) if encrypted => return Err(PemFault::Encrypted { line }),
            Line::End(_) => {
                let read = BASE64.decode(&content).ok().filter(|der| !der.is_empty());
                let der = read.ok_or_else(|| PemFault::Base64 { label: label.clone(), line })?;
                return Ok(Block { label, der, line });
            }
            Line::Other if text.starts_with(PROC_TYPE) && text.contains("ENCRYPTED") => {
                return Err(PemFault::Encrypted { line });
            }
            Line::Other => content.extend(text.chars().filter(|c| !c.is_whitespace())),
        }
    }
    Err(PemFault::NoEnd { label, line })
}

/// Whether a line is a mark. One that only looks like it is a fault.
fn mark(text: &str, line: usize) -> Result<Line<'_>, PemFault> {
    let dashed = text.starts_with(is_dash) || text.ends_with(is_dash);
    let looks = dashed && (text.contains("BEGIN") || text.contains("END"));
    // Without a label behind it, too: the space at its end is gone from a line that was trimmed.
    let [begins, ends] = [BEGIN, END].map(|mark| text.matches(mark.trim_end()).count());
    let marks = begins + ends;
    if marks > 0 && text.contains("\\n") {
        return Err(PemFault::EscapedBreaks { line });
    }
    let whole = |start: &str| {
        let label = text.strip_prefix(start)?.strip_suffix(DASHES)?;
        let legal = |c: char| c == ' ' || c.is_ascii_alphanumeric() || ".#_/".contains(c);
        let plain = (1..=LONGEST_LABEL).contains(&label.len()) && label.trim() == label;
        let plain = plain && label.chars().all(legal);
        plain.then_some(label)
    };
    match (marks, whole(BEGIN), whole(END)) {
        (0, ..) if looks => Err(PemFault::Dashes { line }),
        (0, ..) => Ok(Line::Other),
        (1, Some(label), _) => Ok(Line::Begin(label)),
        (1, _, Some(label)) => Ok(Line::End(label)),
        (1, ..) if text.starts_with('-') && text.ends_with(is_dash) && text.len() < 80 => {
            Err(PemFault::Dashes { line })
        }
        _ => Err(PemFault::Joined { line }),
    }
}

/// Also what word processors make of dashes.
fn is_dash(c: char) -> bool {
    matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<(String, Vec<u8>, usize)>, PemFault> {
        let blocks = blocks(text)?.into_iter();
        Ok(blocks.map(|block| (block.label, block.der, block.line)).collect())
    }

    #[test]
    fn every_block_is_read_and_text_between_them_is_let_stand() {
        let text = "subject=CN = a\n-----BEGIN A B-----\nAQ\nID\n-----END A B-----\r\n\n\
                    Bag Attributes\n  -----BEGIN C-----  \n BA== \n -----END C-----";
        let expected = vec![("A B".to_owned(), vec![1, 2, 3], 2), ("C".to_owned(), vec![4], 8)];
        assert_eq!(read(text).unwrap(), expected);
        assert_eq!(read("no PEM at all\n").unwrap(), []);
    }

    #[test]
    fn what_is_not_whole_is_refused_with_its_line() {
        let label = || "A".to_owned();
        for (text, fault) in [
            (
                "-----BEGIN A-----\nAQID\n-----END A----------BEGIN A-----\nAQID\n-----END A-----",
                PemFault::Joined { line: 3 },
            ),
            ("-----BEGIN A----- AQID -----END A-----", PemFault::Joined { line: 1 }),
            ("\u{0}-------END \n", PemFault::Joined { line: 1 }),
            ("-----BEGIN A-----AQID\n-----END A-----", PemFault::Joined { line: 1 }),
            ("-----BEGIN A-----\nAQID-----END A-----", PemFault::Joined { line: 2 }),
            ("-----BEGIN A-----\\nAQID\\n-----END A-----\\n", PemFault::EscapedBreaks { line: 1 }),
            ("----BEGIN A-----\nAQID\n-----END A-----", PemFault::Dashes { line: 1 }),
            ("-----BEGIN A----\nAQID\n-----END A-----", PemFault::Dashes { line: 1 }),
            ("——BEGIN A——\nAQID\n——END A——", PemFault::Dashes { line: 1 }),
            ("x\n-----BEGIN A-----\nAQID", PemFault::NoEnd { label: label(), line: 2 }),
            (
                "-----BEGIN A-----\nAQID\n-----BEGIN A-----\nAQID\n-----END A-----",
                PemFault::NoEnd { label: label(), line: 1 },
            ),
            (
                "-----BEGIN A-----\nAQID\n-----END B-----",
                PemFault::NoEnd { label: label(), line: 1 },
            ),
            ("\n-----END A-----", PemFault::NoBegin { label: label(), line: 2 }),
            ("-----BEGIN A-----\n-----END A-----", PemFault::Base64 { label: label(), line: 1 }),
            (
                "-----BEGIN A-----\nAQ!D\n-----END A-----",
                PemFault::Base64 { label: label(), line: 1 },
            ),
            (
                "-----BEGIN A-----\nAQIDA\n-----END A-----",
                PemFault::Base64 { label: label(), line: 1 },
            ),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n\
                 AQID\n-----END RSA PRIVATE KEY-----",
                PemFault::Encrypted { line: 1 },
            ),
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAQID\n-----END ENCRYPTED PRIVATE KEY-----",
                PemFault::Encrypted { line: 1 },
            ),
        ] {
            assert_eq!(read(text), Err(fault), "{text}");
        }
    }

    proptest! {
        /// As many blocks as there are beginnings, whatever is done to the text; or none.
        #[test]
        fn no_block_is_passed_over(
            cut in 0usize..120, with in "(-|\n| |E|BEGIN |A){0,3}", at in 0usize..120,
        ) {
            let one = "-----BEGIN A-----\nAQID\n-----END A-----\n";
            let mut text = one.repeat(3);
            let (cut, at) = (cut.min(text.len() - 1), at.min(text.len() - 1));
            text.remove(cut);
            text.insert_str(at, &with);
            if let Ok(read) = read(&text) {
                prop_assert_eq!(read.len(), text.matches("-BEGIN").count(), "{}", text);
                prop_assert!(!read.is_empty());
            }
        }
    }
}
