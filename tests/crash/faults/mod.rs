//! A disk that fails, or is full, while the real program runs: no 200 for what is not durable, the
//! program says so, nothing that was answered is lost, and it heals without a restart.

mod hangs;
mod outage;
mod patient;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use reqwest::StatusCode;

use crate::{
    report,
    shim::{COMMITS, Call, DATABASE, FOR_EVER, HIGH_WATER, Shim},
    support::{
        daemon::{BINARY, Daemon},
        eventually,
        receiver::Behaviour,
        world::{QUICK_RETRY, World, event},
    },
};

/// Call, file, error, calls that still go well, and how many fail.
type Fault = (Call, &'static str, i32, i64, i64);

const FAULTS: &[Fault] = &[
    (Call::Write, COMMITS, libc::ENOSPC, 0, FOR_EVER),
    (Call::Write, COMMITS, libc::EIO, 2, 1),
    (Call::Sync, COMMITS, libc::EIO, 0, FOR_EVER),
    (Call::Sync, COMMITS, libc::EIO, 3, FOR_EVER),
    (Call::Sync, COMMITS, libc::EIO, 0, 1),
    (Call::Sync, COMMITS, libc::EIO, 1, 4),
    (Call::Write, DATABASE, libc::ENOSPC, 0, FOR_EVER),
    (Call::Write, DATABASE, libc::ENOSPC, 3, FOR_EVER),
    (Call::Write, DATABASE, libc::EIO, 0, FOR_EVER),
    (Call::Write, DATABASE, libc::EIO, 2, 1),
    (Call::Sync, DATABASE, libc::EIO, 0, FOR_EVER),
    (Call::Sync, DATABASE, libc::EIO, 3, FOR_EVER),
    (Call::Sync, DATABASE, libc::EIO, 0, 1),
    (Call::Sync, DATABASE, libc::EIO, 1, 4),
    (Call::Sync, DATABASE, libc::ENOSPC, 1, FOR_EVER),
    (Call::Write, HIGH_WATER, libc::ENOSPC, 0, FOR_EVER),
    (Call::Sync, HIGH_WATER, libc::EIO, 0, FOR_EVER),
];

/// An event with so much in it that sled gets something after some hundred of them.
fn large(id: &str) -> String {
    let mut event: serde_json::Value = serde_json::from_str(&event(id)).unwrap();
    event["data"] = "x".repeat(30_000).into();
    event.to_string()
}

/// The program in its world, and what it answered.
struct Sick {
    daemon: Daemon,
    world: World,
    answered: BTreeSet<String>,
    sent: usize,
    admin: reqwest::Client,
}

impl Sick {
    async fn start(world: World, command: Command) -> Self {
        let daemon = Daemon::spawn_with(command, &world.config, world.folder.path());
        daemon.ready().await;
        let socket = world.folder.path().join("admin.sock");
        let admin = reqwest::Client::builder().unix_socket(socket).no_proxy().build().unwrap();
        Self { world, daemon, answered: BTreeSet::new(), sent: 0, admin }
    }

    /// Sends another event. One that is refused is told to come again.
    async fn push(&mut self) -> StatusCode {
        self.sent += 1;
        let id = format!("n-{}", self.sent);
        let answer = self.world.push("innboks", large(&id)).send().await.unwrap();
        if answer.status() == StatusCode::OK {
            self.answered.insert(id);
        } else {
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert!(answer.headers().contains_key("retry-after"));
        }
        answer.status()
    }

    /// Sends until it is answered like this. Not as fast as it can: what is stored before sled is
    /// given it, and fails, is to be delivered later.
    async fn push_until(&mut self, status: StatusCode) {
        let mut pace = tokio::time::interval(Duration::from_millis(10));
        for _ in 0..3_000 {
            if self.push().await == status {
                return;
            }
            pace.tick().await;
        }
        panic!("never answered {status}");
    }

    /// Sends until so many calls were made to fail.
    async fn push_until_hit(&mut self, shim: &Shim, times: u64) {
        let mut pace = tokio::time::interval(Duration::from_millis(10));
        for _ in 0..3_000 {
            if shim.hits() >= times {
                return;
            }
            self.push().await;
            pace.tick().await;
        }
        panic!("{} calls failed instead of {times}", shim.hits());
    }

    async fn is_ready(&self) -> bool {
        let answer = self.admin.get("http://localhost/readyz").send().await.unwrap();
        answer.status().is_success()
    }

    async fn says(&self, ready: bool, writable: u8) {
        eventually("readiness and metrics that tell", || async {
            let line = format!("brevdue_store_writable {writable}");
            let told = self.daemon.metrics().await.contains(&line);
            (self.is_ready().await == ready && told).then_some(())
        })
        .await;
    }

    async fn all_came(&self) {
        let (mut missing, mut seen) = (self.answered.clone(), 0);
        eventually("every answered event at the handler", || {
            // There are thousands of requests: each is read once.
            for request in self.world.receiver.received_after(seen) {
                seen += 1;
                missing.remove(&request.id());
            }
            let all = missing.is_empty().then_some(());
            async move { all }
        })
        .await;
    }

    /// Killed and started again without any fault, it knows and has delivered all it answered.
    async fn and_after_a_kill(self) {
        let Self { world, daemon, answered, .. } = self;
        daemon.kill();
        let daemon = world.daemon().await;
        for id in &answered {
            let answer = world.push("innboks", large(id)).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
        }
        let page = daemon.metrics().await;
        let line = format!("brevdue_events_duplicate_total{{hook=\"innboks\"}} {}", answered.len());
        assert!(page.contains(&line), "{line} is not in\n{page}");
        assert!(daemon.stop().await.success());
    }
}

fn shimmed(world: &World) -> (Shim, Command) {
    let root = world.folder.path().canonicalize().unwrap();
    let aside = root.join("aside");
    fs::create_dir_all(&aside).unwrap();
    let shim = Shim::new(&root.join("data"), &aside);
    let mut command = Command::new(BINARY);
    shim.stand_between(&mut command);
    (shim, command)
}

#[tokio::test]
async fn while_the_disk_fails_nothing_is_answered_200_and_then_it_heals() {
    let world = World::new().await;
    let (shim, command) = shimmed(&world);
    let mut sick = Sick::start(world, command).await;
    for (call, file, error, skip, times) in FAULTS {
        sick.push_until(StatusCode::OK).await;
        // Retries are under way when it fails.
        sick.world.receiver.behave(Behaviour::Answer(500));
        sick.push_until(StatusCode::OK).await;
        shim.fail(*call, file, *error, (*skip, *times));
        if *times == FOR_EVER {
            sick.push_until(StatusCode::SERVICE_UNAVAILABLE).await;
            sick.says(false, 0).await;
            for _ in 0..5 {
                assert_eq!(sick.push().await, StatusCode::SERVICE_UNAVAILABLE, "{call:?} {file}");
            }
            shim.mend();
        } else {
            sick.push_until_hit(&shim, u64::try_from(*times).unwrap()).await;
        }
        assert!(shim.hits() > 0, "{call:?} {file} did not fail");
        sick.world.receiver.behave(Behaviour::Answer(200));
        sick.says(true, 1).await;
        sick.push_until(StatusCode::OK).await;
        sick.all_came().await;
    }
    let answered = sick.answered.len();
    sick.and_after_a_kill().await;
    report(&format!("faults: {} kinds, {answered} events answered, 0 lost", FAULTS.len()));
}

#[tokio::test]
async fn killed_while_the_disk_fails_it_has_what_it_answered() {
    let files = [DATABASE, COMMITS];
    for (call, file) in [Call::Write, Call::Sync].into_iter().flat_map(|c| files.map(|f| (c, f))) {
        let world = World::new().await;
        let (shim, command) = shimmed(&world);
        let mut sick = Sick::start(world, command).await;
        sick.world.receiver.behave(Behaviour::Answer(500));
        for _ in 0..20 {
            sick.push_until(StatusCode::OK).await;
        }
        shim.fail(call, file, libc::EIO, (5, FOR_EVER));
        sick.push_until(StatusCode::SERVICE_UNAVAILABLE).await;
        sick.and_after_a_kill().await;
    }
}

/// A small disk of its own under the daemon's data; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None where this may not be done: only root may mount.
    fn mount(on: &Path) -> Option<Self> {
        fs::create_dir_all(on).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=96m,mode=0700", "brevdue-test"]).arg(on);
        mount.output().ok()?.status.success().then(|| Self(on.to_owned()))
    }

    /// Fills it, but for `leave` bytes; others may be writing, too.
    fn fill(&self, leave: u64) {
        let mut filling = File::create(self.0.join("filling")).unwrap();
        let free = || rustix::fs::statvfs(&self.0).map(|disk| disk.f_bavail * disk.f_frsize);
        while free().unwrap() > leave {
            match filling.write_all(&[1; 4096]) {
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                result => result.unwrap(),
            }
        }
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filling")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a daemon that a failed test left behind may still hold it.
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[tokio::test]
async fn a_full_disk_is_503_while_deliveries_go_on_and_heals_when_there_is_room() {
    // The watermark sees it coming; or there is none, and sled meets the end.
    for (min_free, left) in [("64MiB", 4 << 20), ("64MiB", 0)] {
        let queue = format!("[queue]\nmin_free_disk = \"{min_free}\"\nmax_bytes = \"1GiB\"\n");
        let world = World::with(|_| {}, QUICK_RETRY, &queue).await;
        let Some(disk) = SmallDisk::mount(&world.folder.path().join("data")) else {
            return report("a full disk: not tried, only root may mount one");
        };
        let mut sick = Sick::start(world, Command::new(BINARY)).await;
        sick.world.receiver.behave(Behaviour::Answer(500));
        for _ in 0..60 {
            sick.push_until(StatusCode::OK).await;
        }
        disk.fill(left);
        sick.push_until(StatusCode::SERVICE_UNAVAILABLE).await;
        assert_eq!(sick.push().await, StatusCode::SERVICE_UNAVAILABLE);
        // Each failed attempt is written down, so the store's own files go on changing.
        let tried = sick.world.receiver.received_after(0).len();
        eventually("attempts on a full disk", || async {
            (sick.world.receiver.received_after(tried).len() > 600).then_some(())
        })
        .await;
        sick.world.receiver.behave(Behaviour::Answer(200));
        sick.all_came().await;
        disk.free();
        sick.push_until(StatusCode::OK).await;
        sick.says(true, 1).await;
        sick.all_came().await;
        let answered = sick.answered.len();
        sick.and_after_a_kill().await;
        report(&format!("a full disk, min_free_disk {min_free}: {answered} events, 0 lost"));
        drop(disk);
    }
}
