use std::{pin::pin, sync::mpsc, time::Duration};

use super::{super::history::HookCode, *};
use crate::secret::Digest;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn held(code: &str) -> HookCode {
    HookCode { name: "a".parse().unwrap(), code: Digest::of(code), current: true }
}

#[tokio::test]
async fn what_is_written_is_read_again_private_and_without_a_code() {
    let folder = tempfile::tempdir().unwrap();
    let file = HistoryFile::new(folder.path());
    assert_eq!(file.read().await.unwrap(), History::default());
    file.update(|history| {
        history.observe(&[held("code-1")], &[], NOW);
        history.observe(&[held("code-2")], &[], NOW);
        history.asks(&"a".parse().unwrap(), &Digest::of("code-2"));
        history.validated.insert(SubscriptionId(12), NOW);
    })
    .await
    .unwrap();
    let history = file.read().await.unwrap();
    assert!(
        !history.asked("a", &Digest::of("code-1")) && history.asked("a", &Digest::of("code-2"))
    );
    assert_eq!(history.validated(SubscriptionId(12)), Some(NOW));
    assert_eq!(history.hooks()[&"a".parse().unwrap()].len(), 2);
    let path = folder.path().join(FILE);
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        !text.contains("code-1") && text.contains("\"gone\": \"2027-01-15T08:00:00Z\""),
        "{text}"
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_as_good_as_none_and_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let file = HistoryFile::new(folder.path());
    for text in ["", "{", "[]", r#"{"version":2,"hooks":[],"validated":{}}"#, "\u{0}"] {
        fs::write(folder.path().join(FILE), text).unwrap();
        assert_eq!(file.read().await.unwrap(), History::default(), "{text}");
        file.update(|history| history.observe(&[held("code-1")], &[], NOW)).await.unwrap();
        assert!(
            file.read().await.unwrap().remembers(&"a".parse().unwrap(), &Digest::of("code-1")),
            "{text}"
        );
    }
}

/// Makes the history's file a FIFO, which cannot be opened for reading until someone writes to it.
fn hang(folder: &Path) -> PathBuf {
    let path = folder.join(FILE);
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, mode, 0).unwrap();
    path
}

/// Lets go of a hanging file when told to, or else after some seconds, so that a fault fails a test
/// and does not hang it.
fn let_go(path: PathBuf) -> mpsc::Sender<()> {
    let (tell, told) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        told.recv_timeout(Duration::from_secs(5)).ok();
        drop(fs::OpenOptions::new().write(true).open(path));
    });
    tell
}

#[tokio::test(flavor = "current_thread")]
async fn a_file_system_that_hangs_stops_no_other_task() {
    let folder = tempfile::tempdir().unwrap();
    let file = HistoryFile::new(folder.path());
    let tell = let_go(hang(folder.path()));
    let others = async {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    };
    let mut update = pin!(file.update(|history| history.observe(&[held("code-1")], &[], NOW)));
    let others_first = tokio::select! {
        biased;
        _ = &mut update => false,
        () = others => true,
    };
    assert!(others_first, "the update held the thread");
    tell.send(()).unwrap();
    update.await.unwrap();
    assert!(file.read().await.unwrap().remembers(&"a".parse().unwrap(), &Digest::of("code-1")));
}

#[tokio::test(flavor = "current_thread")]
async fn a_change_that_nobody_waits_for_any_more_is_made_before_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let file = HistoryFile::new(folder.path());
    let tell = let_go(hang(folder.path()));
    let abandoned = tokio::select! {
        biased;
        _ = file.update(|history| history.observe(&[held("code-1")], &[], NOW)) => false,
        () = tokio::task::yield_now() => true,
    };
    assert!(abandoned);
    let (name, code) = ("a".parse().unwrap(), Digest::of("code-1"));
    tell.send(()).unwrap();
    // Only what is known can be asked for.
    file.update(move |history| history.asks(&name, &code)).await.unwrap();
    assert!(file.read().await.unwrap().asked("a", &Digest::of("code-1")));
}
