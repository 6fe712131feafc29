//! What becomes of connections when the daemon cannot have another descriptor.

use std::fs;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::net::TcpStream;

use super::many::sender;
use crate::support::{
    daemon::Daemon,
    world::{World, event},
};

/// Descriptors that the daemon still gets.
const LEFT: u64 = 8;

/// From now on it can open only a few more, as if something else had taken the rest.
fn leave_few(daemon: &Daemon) {
    let open = fs::read_dir(format!("/proc/{}/fd", daemon.id())).unwrap().count();
    let few = Some(u64::try_from(open).unwrap() + LEFT);
    let pid = i32::try_from(daemon.id()).ok().and_then(Pid::from_raw);
    prlimit(pid, Resource::Nofile, Rlimit { current: few, maximum: few }).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_descriptors_those_who_prove_nothing_make_room_and_the_cure_is_told() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    world.validated(1).await;
    // What is opened with the first event is open from then on.
    assert_eq!(world.push("innboks", event("before")).send().await.unwrap().status(), 200);
    world.receiver.wait_for(1).await;
    leave_few(&daemon);
    let mut silent = Vec::new();
    for _ in 0..3 * LEFT {
        silent.push(TcpStream::connect(world.listen).await.unwrap());
    }
    let push = sender(&world).post(world.hook("innboks"));
    let push = push.header("content-type", "application/json").body(event("behind"));
    assert_eq!(push.send().await.expect("an answer in time").status(), 200);
    world.receiver.wait_for(2).await;
    drop(silent);
    let log = daemon.stopped().await;
    let line = log.lines().find(|line| line.contains("cannot accept a connection"));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    for words in ["os error 24", "LimitNOFILE"] {
        assert!(line.contains(words), "{line}");
    }
}
