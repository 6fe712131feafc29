use std::fs;

use super::*;

fn of(bytes: &[u8]) -> Result<String, OperatorFileError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    fs::write(&path, bytes).unwrap();
    read(&path, 1024)
}

fn utf16(text: &str, mark: bool, big: bool) -> Vec<u8> {
    let units = mark.then_some(0xfeff).into_iter().chain(text.encode_utf16());
    units.flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
}

#[test]
fn a_byte_order_mark_is_stripped_and_only_at_the_beginning() {
    assert_eq!(of(b"\xef\xbb\xbfabc").unwrap(), "abc");
    assert_eq!(of("a\u{feff}b".as_bytes()).unwrap(), "a\u{feff}b");
    assert_eq!(of(b"").unwrap(), "");
}

#[test]
fn other_formats_are_named_with_a_cure_and_without_what_is_in_them() {
    let utf16s = [(true, true), (true, false), (false, true), (false, false)];
    for bytes in utf16s.map(|(mark, big)| utf16("hunter2", mark, big)) {
        let told = of(&bytes).unwrap_err().to_string();
        assert!(told.contains("UTF-16") && told.contains("iconv"), "{told}");
    }
    for (bytes, words) in [
        (&b"\x30\x82\x09\x11\x02\x01\x03\x30"[..], "PKCS#12"),
        (b"\x30\x80\x02\x01\x03\x30", "PKCS#12"),
        (b"\x30\x82\x04\xa4\x02\x01\x00\x02", "private key in DER"),
        (b"\x30\x77\x02\x01\x01\x04\x20", "private key in DER"),
        (b"\x30\x82\x01\x00\x30\x40\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0d", "encrypted"),
        (b"\x30\x82\x01\x00\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02", "PKCS#7"),
        (b"\x30\x82\x01\x00\x30\x81\x80\xa0\x03", "certificate in DER"),
        (b"\xfe\xed\xfe\xed\x00\x00\x00\x02", "Java keystore"),
        (b"\x1f\x8b\x08\x00", "compressed"),
        (b"{\\rtf1\\ansi hunter2}", "RTF"),
        (b"<!DOCTYPE html>", "web page"),
        (b"$ANSIBLE_VAULT;1.1;AES256\n6238", "secret manager"),
        (b"hunter2\x00hunter2", "NUL"),
        (b"one\ntwo\nbl\xe5b\xe6r", "line 3"),
    ] {
        let told = of(bytes).unwrap_err().to_string();
        assert!(told.contains(words) && !told.contains("hunter2"), "{told}");
    }
}

#[test]
fn what_is_no_file_is_neither_waited_for_nor_read_without_end() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, 0o600.into(), 0).unwrap();
    let told = read(&pipe, 1024).unwrap_err().to_string();
    assert!(told.contains("no regular file"), "{told}");
    assert!(matches!(read(Path::new("/dev/zero"), 9).unwrap_err().fault, FileFault::NotRegular));
    let told = read(folder.path(), 1024).unwrap_err().to_string();
    assert!(told.contains("name a file in it"), "{told}");
    let told = read(&folder.path().join("none"), 1024).unwrap_err().to_string();
    assert!(told.contains("No such file") && told.contains("put it there"), "{told}");
    assert!(matches!(of(&[b'a'; 1025]).unwrap_err().fault, FileFault::TooLarge(1024)));
    let longest = Duration::from_secs(60);
    let stream = read_stream(Path::new("/dev/zero"), 9, longest).unwrap_err();
    assert!(matches!(stream.fault, FileFault::TooLarge(9)));
    let told = read_stream(&pipe, 9, Duration::from_millis(10)).unwrap_err().to_string();
    assert!(told.contains("name the file itself"), "{told}");
}

#[test]
fn a_file_that_others_may_read_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    fs::write(&path, "").unwrap();
    for (mode, open) in
        [(0o600, false), (0o640, false), (0o400, false), (0o644, true), (0o660, true)]
    {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(open_to_others(&path).is_some(), open, "{mode:o}");
    }
    assert_eq!(open_to_others(&folder.path().join("none")), None);
}

#[test]
fn too_many_open_files_are_not_blamed_on_the_file() {
    for limit in [Errno::MFILE, Errno::NFILE] {
        let told = cure(&io::Error::from_raw_os_error(limit.raw_os_error()));
        assert!(told.contains("ulimit -n"), "{told}");
    }
    assert!(cure(&io::ErrorKind::NotFound.into()).contains("put it there"));
}
