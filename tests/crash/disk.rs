//! A real ext4, on a loop device whose image is copied while a process works on it: each copy is
//! what the disk would hold if its power had gone then. It is mounted, and its journal replayed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    ledger::Expected,
    power::quick_folder,
    report, rounds,
    shim::{Shim, Weak},
    support::eventually,
    verify::verify,
    workload::Workload,
};

/// An ext4 in a file, mounted; unmounted when dropped.
struct Ext4(PathBuf);

impl Ext4 {
    fn mount(image: &Path, on: PathBuf) -> Self {
        fs::create_dir(&on).unwrap();
        run(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(image).arg(&on));
        Self(on)
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        run(Command::new("umount").arg(&self.0));
        fs::remove_dir(&self.0).unwrap();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || std::thread::panicking(), "{command:?}: {told}");
}

/// Why this cannot be done here, if it cannot.
fn is_impossible() -> Option<&'static str> {
    let losetup = Command::new("losetup").arg("-f").output();
    let free = losetup.is_ok_and(|output| output.status.success() && !output.stdout.is_empty());
    (!free).then_some("power loss on a real ext4: not tried, losetup -f finds no loop device")
}

/// A process at work; killed when dropped.
struct Worker(Child);

impl Worker {
    fn is_at_work(&mut self) -> bool {
        match self.0.try_wait().unwrap() {
            None => true,
            Some(status) => {
                assert!(status.success(), "the workload failed");
                false
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Until it goes on, it writes nothing.
    async fn stop(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.0.id());
        let is_stopped = |task: fs::DirEntry| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 'Z']))
        };
        eventually("a standstill", || async {
            fs::read_dir(&tasks).unwrap().all(|task| is_stopped(task.unwrap())).then_some(())
        })
        .await;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// What the copies held: a line for each that was not whole. And how many events in all. A device
/// is used for so many copies, so that a store does not grow for ever.
async fn cut_off(rounds: usize, copies: usize, weak: Option<Weak>) -> (Vec<String>, usize) {
    let (mut faults, mut events) = (Vec::new(), 0);
    for device in 0..rounds.div_ceil(copies) {
        let folder = quick_folder();
        let path = |name: &str| folder.path().join(name);
        let (image, ledger) = (path("image"), path("ledger"));
        fs::File::create(&image).unwrap().set_len(512 << 20).unwrap();
        run(Command::new("mkfs.ext4").arg("-q").arg(&image));
        let disk = Ext4::mount(&image, path("disk"));
        let shim = Shim::new(&disk.0, folder.path()).without(weak);
        let start = |seed: usize| {
            let seed = u64::try_from(seed).unwrap();
            let (folder, ledger) = (disk.0.clone(), ledger.clone());
            let mut command =
                Workload { folder, ledger, seed, events: 1500, sick: false }.command();
            shim.stand_between(&mut command);
            Worker(command.stdout(Stdio::null()).spawn().unwrap())
        };
        let told = || fs::metadata(&ledger).map_or(0, |ledger| ledger.len());
        let at_work = async |before| {
            eventually("work", || async { (told() > before).then_some(()) }).await;
        };
        let mut worker = start(device * 100);
        at_work(0).await;
        for round in device * copies..rounds.min((device + 1) * copies) {
            // The moment is the point: any is as good as any other.
            tokio::time::sleep(Duration::from_millis(fastrand::u64(100..700))).await;
            if !worker.is_at_work() {
                let before = told();
                worker = start(device * 100 + round + 1);
                at_work(before).await;
            }
            worker.stop().await;
            let expected = Expected::read(&fs::read_to_string(&ledger).unwrap_or_default());
            run(Command::new("cp").arg("--sparse=always").arg(&image).arg(path("copy")));
            worker.signal(Signal::CONT);
            events += expected.stored.len();
            let copy = Ext4::mount(&path("copy"), path("replayed"));
            let remains = quick_folder();
            run(Command::new("cp").arg("-r").arg(copy.0.join("queue")).arg(remains.path()));
            drop(copy);
            if let Err(fault) = verify(remains.path(), &expected) {
                faults.push(format!("round {round}: {fault}"));
            }
        }
        drop(worker);
        drop(disk);
    }
    (faults, events)
}

#[tokio::test]
async fn a_real_file_system_that_is_cut_off_has_all_that_was_answered() {
    if let Some(why) = is_impossible() {
        return report(why);
    }
    let rounds = rounds(3, 40);
    let (faults, events) = cut_off(rounds, 5, None).await;
    let bad = faults.len();
    report(&format!(
        "power loss on ext4: {rounds} rounds, {events} events to be found, {bad} faults"
    ));
    assert!(events > rounds * 50, "only {events} events were looked for");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test]
async fn without_the_sync_of_the_log_a_real_file_system_loses_what_was_answered() {
    if let Some(why) = is_impossible() {
        return report(why);
    }
    let rounds = rounds(3, 20);
    // A new device for each: what sled has made durable meanwhile is not lost.
    let (faults, _) = cut_off(rounds, 1, Some(Weak::Wal)).await;
    let refused = faults.iter().filter(|fault| fault.contains("refused")).count();
    report(&format!(
        "power loss on ext4 without the log's sync: {rounds} rounds, {} whole, {refused} \
         refused, {} lost something answered",
        rounds - faults.len(),
        faults.len() - refused
    ));
    assert!(!faults.is_empty(), "a missing sync loses nothing here");
}
