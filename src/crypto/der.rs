//! As much of DER (ITU-T X.690) as keys and certificates need: two types written, any read.

/// INTEGER.
pub const INTEGER: u8 = 0x02;
/// SEQUENCE.
pub const SEQUENCE: u8 = 0x30;

/// An INTEGER from the big-endian bytes of a number that is not negative.
pub fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let mut content = Vec::with_capacity(bytes.len() + 1);
    let digits = bytes.get(zeros..).unwrap_or_default();
    // A first bit that is set would make it negative.
    if digits.first().is_none_or(|first| *first >= 0x80) {
        content.push(0);
    }
    content.extend_from_slice(digits);
    element(INTEGER, &content)
}

/// How many bits the number has that stands in an INTEGER.
pub fn bits(content: &[u8]) -> usize {
    let digits = content.iter().skip_while(|byte| **byte == 0);
    let leading = digits.clone().next().map_or(0, |first| first.leading_zeros());
    (digits.count() * 8).saturating_sub(usize::try_from(leading).unwrap_or_default())
}

/// A SEQUENCE of elements that are written already.
pub fn sequence(elements: &[Vec<u8>]) -> Vec<u8> {
    element(SEQUENCE, &elements.concat())
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let length = content.len().to_be_bytes();
            let zeros = length.iter().take_while(|byte| **byte == 0).count();
            let digits = length.get(zeros..).unwrap_or_default();
            out.push(0x80 | u8::try_from(digits.len()).unwrap_or(0x7f));
            out.extend_from_slice(digits);
        }
    }
    out.extend_from_slice(content);
    out
}

/// One element that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element<'d> {
    /// Its type.
    pub tag: u8,
    /// What is in it.
    pub content: &'d [u8],
    /// All of it, tag and length included.
    pub whole: &'d [u8],
}

impl<'d> Element<'d> {
    /// The elements in it.
    pub fn inner(&self) -> Reader<'d> {
        Reader(self.content)
    }
}

/// Elements one after the other. It ends at the first that is not well-formed.
#[derive(Debug, Clone)]
pub struct Reader<'d>(pub &'d [u8]);

impl<'d> Iterator for Reader<'d> {
    type Item = Element<'d>;

    fn next(&mut self) -> Option<Element<'d>> {
        let all = self.0;
        let [tag, first, after @ ..] = all else { return None };
        let (length, behind) = match first {
            0..0x80 => (usize::from(*first), after),
            0x81..=0x84 => {
                let (digits, behind) = after.split_at_checked(usize::from(first & 0x7f))?;
                let length = digits.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                (length, behind)
            }
            0x80 | 0x85.. => return None,
        };
        let (content, rest) = behind.split_at_checked(length)?;
        self.0 = rest;
        let whole = all.get(..all.len() - rest.len())?;
        Some(Element { tag: *tag, content, whole })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_written_as_the_standard_says() {
        for (bytes, written) in [
            (&[][..], &[2, 1, 0][..]),
            (&[0], &[2, 1, 0]),
            (&[0, 0, 1], &[2, 1, 1]),
            (&[0x7f], &[2, 1, 0x7f]),
            (&[0x80], &[2, 2, 0, 0x80]),
            (&[1, 0, 1], &[2, 3, 1, 0, 1]),
        ] {
            assert_eq!(unsigned(bytes), written, "{bytes:?}");
        }
    }

    #[test]
    fn the_bits_of_a_number_are_counted() {
        for (content, expected) in [
            (&[][..], 0),
            (&[0], 0),
            (&[1], 1),
            (&[0, 0x80], 8),
            (&[0, 0x80, 0], 16),
            (&[3, 0], 10),
        ] {
            assert_eq!(bits(content), expected, "{content:?}");
        }
    }

    #[test]
    fn long_lengths_have_their_own_length() {
        for (length, head) in [
            (0x7f, &[0x30, 0x7f][..]),
            (0x80, &[0x30, 0x81, 0x80]),
            (0xff, &[0x30, 0x81, 0xff]),
            (0x100, &[0x30, 0x82, 1, 0]),
            (0x1_0000, &[0x30, 0x83, 1, 0, 0]),
        ] {
            let written = sequence(&[vec![0; length]]);
            assert!(written.starts_with(head), "{length}");
            let read = Reader(&written).next().unwrap();
            assert_eq!((read.content.len(), read.whole.len()), (length, written.len()));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let read: usize = Reader(&bytes).map(|element| element.whole.len()).sum();
            prop_assert!(read <= bytes.len());
        }

        #[test]
        fn what_is_written_is_read_back(
            numbers in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..5),
        ) {
            let written: Vec<_> = numbers.iter().map(|number| unsigned(number)).collect();
            let whole = sequence(&written);
            let outer = Reader(&whole).next().unwrap();
            let read: Vec<_> = outer.inner().map(|element| element.whole.to_vec()).collect();
            prop_assert_eq!(read, written);
        }
    }
}
