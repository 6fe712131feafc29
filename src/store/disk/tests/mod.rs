pub(crate) mod fault;

use super::*;

#[test]
fn a_panic_is_an_error_and_a_call_that_ended_is_no_complaint() {
    let disk = Disk::with_patience(Duration::ZERO);
    let during = disk.call(Class::Read, || {
        assert!(disk.complaint().is_some_and(|words| words.contains("not answered")));
        Ok::<_, Error>(7)
    });
    assert_eq!(during.unwrap(), 7);
    assert_eq!(disk.complaint(), None);
    let panicked =
        disk.call::<(), Error>(Class::Drop, || std::panic::resume_unwind(Box::new("as sled does")));
    assert!(matches!(panicked, Err(Error::Panicked(words)) if words == "as sled does"));
    assert_eq!(disk.complaint(), None);
}

#[test]
fn the_oldest_call_counts() {
    let disk = Disk::default();
    let oldest = || disk.under_way().first_key_value().map(|(number, _)| *number);
    let first = disk.begin();
    disk.call(Class::Write, || {
        assert_eq!(disk.under_way().len(), 2);
        assert_eq!(oldest(), Some(first));
        Ok::<_, Error>(())
    })
    .unwrap();
    // A number may be used again, but not while its call is under way.
    let second = disk.begin();
    disk.under_way().remove(&first);
    assert!(disk.begin() > second);
    assert_eq!(oldest(), Some(second));
}
