//! What the disk allows: a file, to which the bytes of each group go in one write and one sync.

use std::{fs::File, io::Write, path::Path, thread::JoinHandle};

use brevdue::event::Arrival;
use tokio::sync::{mpsc, oneshot};

type Waiting = (Arrival, oneshot::Sender<()>);

/// The file and its one writer.
#[derive(Clone)]
pub(crate) struct Bare(mpsc::Sender<Waiting>);

impl Bare {
    pub(crate) fn open(path: &Path) -> anyhow::Result<(Self, JoinHandle<std::io::Result<()>>)> {
        let (mailbox, waiting) = mpsc::channel(4096);
        let file = File::create(path)?;
        Ok((Self(mailbox), std::thread::spawn(move || write(file, waiting))))
    }

    pub(crate) async fn append(&self, arrival: Arrival) -> anyhow::Result<()> {
        let (answer, answered) = oneshot::channel();
        self.0.send((arrival, answer)).await?;
        Ok(answered.await?)
    }
}

fn write(mut file: File, mut waiting: mpsc::Receiver<Waiting>) -> std::io::Result<()> {
    while let Some(first) = waiting.blocking_recv() {
        let mut group = vec![first];
        while let Ok(next) = waiting.try_recv() {
            group.push(next);
        }
        let mut bytes = Vec::new();
        for (arrival, _) in &group {
            bytes.extend_from_slice(arrival.event.json());
        }
        file.write_all(&bytes)?;
        file.sync_data()?;
        for (_, answer) in group {
            answer.send(()).map_err(|()| std::io::ErrorKind::BrokenPipe)?;
        }
    }
    Ok(())
}
