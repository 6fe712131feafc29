//! Commands beside the daemon: those that only look write nothing, and what the others write is the service's.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use crate::support::world::World;

/// A user and a group that nobody here has.
const SERVICE: (u32, u32) = (54_321, 54_322);

/// Every file with its owner, its mode and its content.
fn all(folder: &Path) -> BTreeMap<PathBuf, (u32, u32, u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = path.symlink_metadata().unwrap();
        let mut content = Vec::new();
        if metadata.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            content = fs::read(&path).unwrap();
        }
        found.insert(path, (metadata.uid(), metadata.gid(), metadata.mode(), content));
    }
    found
}

fn good(world: &World, arguments: &[&str]) {
    let output = world.command(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_look_write_nothing_and_what_others_write_is_the_owners_of_the_directory() {
    let world = World::new().await;
    let data = world.folder.path().join("data");
    let looks: [&[&str]; 4] = [
        &["check"],
        &["subscriptions", "plan"],
        &["subscriptions", "list"],
        &["subscriptions", "plan", "--json"],
    ];
    for look in looks {
        good(&world, look);
        assert!(!data.exists(), "{look:?}");
    }
    // It is the daemon's to make, as its own user.
    let output = world.command(&["subscriptions", "rotate", "innboks"]);
    assert!(!output.status.success() && !data.exists(), "{output:?}");

    let root = rustix::process::geteuid().is_root();
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o750)).unwrap();
    if root {
        chown(&data, Some(SERVICE.0), Some(SERVICE.1)).unwrap();
    }
    let before = all(&data);
    for look in looks {
        good(&world, look);
        assert_eq!(all(&data), before, "{look:?}");
    }
    let owner = before[&data].clone();
    let secret = data.join("secrets/innboks");
    for _ in 0..2 {
        good(&world, &["subscriptions", "rotate", "innboks"]);
        good(&world, &["subscriptions", "plan"]);
        let found = all(&data);
        assert_eq!(found[&data], owner);
        assert_eq!(found[&data.join("secrets")].2 & 0o777, 0o700);
        assert_eq!(found[&secret].2 & 0o777, 0o600);
        for (path, (user, group, ..)) in &found {
            assert_eq!((*user, *group), (owner.0, owner.1), "{}", path.display());
        }
    }
    assert!(root == (owner.0 == SERVICE.0));
    // What the service's group was let read it still may.
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).unwrap();
    good(&world, &["subscriptions", "rotate", "innboks"]);
    assert_eq!(fs::metadata(&secret).unwrap().mode() & 0o777, 0o640);
    // It asks for a subscription, which is written down before.
    world.command(&["subscriptions", "apply"]);
    let found = all(&data);
    assert!(found.contains_key(&data.join("altinn-state.json")), "{:?}", found.keys());
    for (path, (user, group, ..)) in &found {
        assert_eq!((*user, *group), (owner.0, owner.1), "{}", path.display());
    }
}
