//! What stands in the store.

/// A value of the store: a byte for its kind and the payload.
pub(crate) fn value(input: &[u8]) -> bool {
    brevdue::queue::sled::fuzz_value(input)
}

/// A value of the store with its frame.
pub(crate) fn frame(input: &[u8]) -> bool {
    brevdue::queue::sled::fuzz_frame(input)
}

/// The store's high-water file.
pub(crate) fn high_water(input: &[u8]) -> bool {
    brevdue::queue::sled::fuzz_high_water(input)
}

/// A segment of the write-ahead log, or commits of one.
pub(crate) fn wal(input: &[u8]) -> bool {
    brevdue::store::fuzz_wal(input)
}

/// A bookmark's place: how far the feed was read.
pub(crate) fn cursor(input: &[u8]) -> bool {
    use brevdue::altinn::feed::cursor::Cursor;

    let Ok(cursor) = Cursor::decode(input) else { return false };
    let again = Cursor::decode(&cursor.encode());
    assert!(again.is_ok_and(|again| again == cursor), "is another, again");
    true
}
