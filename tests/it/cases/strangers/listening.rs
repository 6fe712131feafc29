//! What is listened on, whatever the system makes of IPv6.

use std::process::Command;

use tokio::net::TcpStream;

use crate::support::{
    daemon::{BINARY, Daemon},
    eventually,
    world::{World, event},
};

/// Listens on all addresses, as without `listen`.
fn everywhere(world: &World, more: &str) {
    let port = world.listen.port();
    let all = format!("listen = [\"[::]:{port}\"{more}]");
    world.edit(&format!("listen = [\"{}\"]", world.listen), &all);
}

async fn traced(world: &World, arguments: &[&str]) -> Daemon {
    let mut command = Command::new("strace");
    command.arg("--follow-forks").args(arguments).arg("--output");
    command.arg(world.folder.path().join("trace")).arg(BINARY);
    let daemon = Daemon::spawn_with(command, &world.config, world.folder.path());
    daemon.ready().await;
    daemon
}

#[tokio::test]
async fn all_addresses_are_those_of_ipv4_too_whatever_the_systems_default() {
    let world = World::new().await;
    everywhere(&world, "");
    let daemon = traced(&world, &["--trace=setsockopt"]).await;
    assert_eq!(world.push("innboks", event("1")).send().await.unwrap().status(), 200);
    drop(daemon);
    let trace = std::fs::read_to_string(world.folder.path().join("trace")).unwrap();
    let asked = trace.lines().find(|line| line.contains("IPV6_V6ONLY")).expect("it is asked for");
    assert!(asked.contains("[0]"), "{asked}");
}

#[tokio::test]
async fn without_ipv6_all_addresses_are_those_of_ipv4_and_it_is_said() {
    let world = World::new().await;
    everywhere(&world, "");
    // The first socket of the thread that binds is the one for [::].
    let daemon =
        traced(&world, &["--trace=socket", "--inject=socket:error=EAFNOSUPPORT:when=1"]).await;
    assert_eq!(world.push("innboks", event("1")).send().await.unwrap().status(), 200);
    eventually("the line", || async {
        daemon.log().contains("there is no IPv6 here").then_some(())
    })
    .await;
}

#[tokio::test]
async fn ipv4_addresses_may_stand_beside_all_of_ipv6() {
    let world = World::new().await;
    let port = world.listen.port();
    everywhere(&world, &format!(", \"127.0.0.1:{port}\""));
    let daemon = world.daemon().await;
    assert_eq!(world.push("innboks", event("1")).send().await.unwrap().status(), 200);
    assert!(TcpStream::connect(("::1", port)).await.is_ok());
    assert!(daemon.stop().await.success());
}
