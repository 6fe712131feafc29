//! 200 means stored: seen from outside, in a trace of system calls.

use std::process::Command;

use crate::support::{
    daemon::{BINARY, Daemon},
    world::{World, event},
};

/// The daemon behind a proxy, without TLS, so that requests can be read in the trace.
fn plain(world: &World) {
    let text = std::fs::read_to_string(&world.config).unwrap();
    let tls = text.lines().find(|line| line.starts_with("tls = ")).unwrap();
    let off = "tls = \"off\"\ntrusted_proxies = [\"127.0.0.1\"]";
    std::fs::write(&world.config, text.replace(tls, off)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn between_the_request_and_its_200_the_stores_file_is_synced() {
    let world = World::new().await;
    plain(&world);
    let trace = world.folder.path().join("trace");
    let mut command = Command::new("strace");
    command.args(["--follow-forks", "--decode-fds=path", "--string-limit=400", "--output"]);
    command.arg(&trace);
    command.args([
        "--trace=fdatasync,fsync,sync_file_range,read,recvfrom,write,writev,sendto,pwrite64",
    ]);
    command.arg(BINARY);
    let daemon = Daemon::spawn_with(command, &world.config, world.folder.path());
    daemon.ready().await;
    let url = format!("http://{}/hooks/innboks?code={}", world.listen, world.secret("innboks"));
    let request = world.client.post(url).header("content-type", "application/json");
    assert_eq!(request.body(event("traced")).send().await.unwrap().status(), 200);
    drop(daemon);

    let trace = std::fs::read_to_string(trace).unwrap();
    let lines: Vec<&str> = trace.lines().collect();
    let at = |from: usize, what: &str, is: &dyn Fn(&str) -> bool| {
        let found = lines[from..].iter().position(|line| is(line));
        from + found.unwrap_or_else(|| panic!("no {what} after line {from}"))
    };
    let request = at(0, "request", &|line| line.contains("POST /hooks/innboks"));
    let written = at(request, "write of the commit", &|line| {
        line.contains("pwrite64(") && line.contains("/data/queue/store/wal>")
    });
    // A call that another thread interrupts in the trace is finished in a line of its own.
    let synced = at(written, "data sync", &|line| {
        line.contains("fdatasync(") && line.contains("/data/queue/store/wal>")
    });
    let thread = lines[synced].split_whitespace().next().unwrap();
    let done = at(synced, "end of the sync", &|line| {
        line.starts_with(thread) && line.contains("fdatasync") && line.trim_end().ends_with("= 0")
    });
    let answered = at(request, "answer", &|line| line.contains("HTTP/1.1 200"));
    assert!(done < answered, "synced in line {done}, answered in line {answered}");
    assert!(!trace.contains("sync_file_range("), "sled's own sync is no sync");
}
