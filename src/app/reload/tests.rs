use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use tokio_util::task::TaskTracker;

use super::*;
use crate::app::reloadable::PutInForce;

/// Takes a file's text, whatever it is.
#[derive(Default)]
struct Taken {
    path: PathBuf,
    texts: Mutex<Vec<String>>,
}

impl Reloadable for Taken {
    fn read_anew(&self) -> anyhow::Result<PutInForce<'_>> {
        let text = fs::read_to_string(&self.path)?;
        Ok(Box::new(|| self.texts.lock().unwrap_or_else(PoisonError::into_inner).push(text)))
    }
}

struct Rig {
    folder: tempfile::TempDir,
    taken: Vec<Arc<Taken>>,
    reload: Arc<Reload>,
}

/// A reload of parts with a file each, none of which is there.
fn rig(names: &[&str]) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let taken: Vec<_> = names
        .iter()
        .map(|name| Arc::new(Taken { path: folder.path().join(name), ..Taken::default() }))
        .collect();
    let part = |one: &Arc<Taken>| Part {
        what: "a secret".to_owned(),
        files: vec![Named { key: "a.secret_file".to_owned(), path: one.path.clone() }],
        of: Arc::<Taken>::clone(one),
    };
    let parts = taken.iter().map(part).collect();
    let reload = Arc::new(Reload { parts, handlers: Handlers::default(), wake: Arc::default() });
    Rig { folder, taken, reload }
}

impl Rig {
    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn texts(&self) -> Vec<Vec<String>> {
        self.taken.iter().map(|one| one.texts.lock().unwrap().clone()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_grows_is_taken_once_and_whole() {
    let rig = rig(&["secret"]);
    rig.write("secret", "a-sec");
    let grow = async {
        for text in ["a-secre", "a-secret", "a-secret-of", "a-secret-of-some-length"] {
            sleep(BETWEEN / 2).await;
            rig.write("secret", text);
        }
    };
    tokio::join!(Arc::clone(&rig.reload).all(), grow);
    assert_eq!(rig.texts(), [["a-secret-of-some-length"]]);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_goes_on_changing_is_left_and_holds_up_no_other() {
    let rig = rig(&["secret", "other"]);
    rig.write("other", "another-secret");
    let began = Instant::now();
    let tasks = TaskTracker::new();
    let reload = tasks.spawn(Arc::clone(&rig.reload).all());
    let mut writes = 0;
    while !reload.is_finished() {
        writes += 1;
        rig.write("secret", &"x".repeat(writes));
        // Whoever was woken early by it has the other secret by then.
        if began.elapsed() >= BETWEEN * 2 {
            assert_eq!(rig.texts(), [vec![], vec!["another-secret".to_owned()]]);
        }
        sleep(BETWEEN / 4).await;
    }
    assert!(began.elapsed() >= BETWEEN * 9 && began.elapsed() < BETWEEN * 20);
    assert_eq!(rig.texts()[0], Vec::<String>::new());
    // Once it rests, it is taken.
    Arc::clone(&rig.reload).all().await;
    assert_eq!(rig.texts()[0], ["x".repeat(writes)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_written_while_it_is_read_is_not_put_in_force() {
    /// Another writes while this reads, the first time.
    struct Overtaken(Arc<Taken>, Mutex<bool>);
    impl Reloadable for Overtaken {
        fn read_anew(&self) -> anyhow::Result<PutInForce<'_>> {
            let read = self.0.read_anew();
            if std::mem::replace(&mut *self.1.lock().unwrap(), false) {
                fs::write(&self.0.path, "a-secret-of-some-length").unwrap();
            }
            read
        }
    }
    let rig = rig(&["secret"]);
    rig.write("secret", "a-secret");
    let taken = Arc::clone(&rig.taken[0]);
    let files = vec![Named { key: "a.secret_file".to_owned(), path: taken.path.clone() }];
    let of = Arc::new(Overtaken(taken, Mutex::new(true)));
    let parts = vec![Part { what: "a secret".to_owned(), files, of }];
    let handlers = Handlers::default();
    Arc::new(Reload { parts, handlers, wake: Arc::default() }).all().await;
    assert_eq!(rig.texts(), [["a-secret-of-some-length"]]);
}
