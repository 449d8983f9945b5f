//! What a guest makes of anything that a host may say, as far as it is heard and not done.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};

use crate::protocol::{Decoder, MAX_FRAME, Node, Request};
use crate::tree::{Bounds, Planting};

/// Hears it in pieces, as they come from a socket; what is heard is one message and no other, and
/// directories are made where they belong or not at all.
pub fn hears(said: &[u8]) {
    let mut decoder = Decoder::default();
    let size = said.first().map_or(1, |byte| usize::from(*byte) + 1);
    for piece in said.chunks(size) {
        decoder.push(piece);
        loop {
            let frame = match decoder.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => return,
            };
            assert!(frame.payload.len() <= MAX_FRAME);
            match Request::decode(&frame) {
                Ok(Some(request)) => {
                    again(frame.stream, &request);
                    if let Request::Nodes(nodes) = request {
                        planted(&nodes);
                    }
                }
                Ok(None) => {}
                Err(_) => return,
            }
        }
    }
}

/// A message that was read is written and read as the same.
fn again(stream: u32, request: &Request) {
    let mut bytes = Vec::new();
    request.encode(stream, &mut bytes);
    let mut decoder = Decoder::default();
    decoder.push(&bytes);
    let frame = decoder.next_frame().expect("it is a frame").expect("it is whole");
    assert_eq!(Request::decode(&frame), Ok(Some(request.clone())));
}

/// A row of nodes makes one directory, or nothing.
fn planted(nodes: &[Node]) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    struct Place(PathBuf);
    impl Drop for Place {
        fn drop(&mut self) {
            let _left_to_the_host = std::fs::remove_dir_all(&self.0);
        }
    }
    let names = |path: &Path| -> Vec<_> {
        let entries = std::fs::read_dir(path).expect("it is there");
        entries.map(|entry| entry.expect("it can be read").file_name()).collect()
    };

    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("symbiont-fuzz-{}-{number}", std::process::id());
    let place = Place(std::env::temp_dir().join(name));
    let within = place.0.join("within");
    std::fs::create_dir_all(&within).expect("there is room for two directories");
    let parent = rustix::fs::open(&within, OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
    let parent = parent.expect("it was just made");
    let bounds = Bounds::of(1 << 16);
    let planting = Planting::begin(parent, b"part".to_vec(), b"it".to_vec(), 0o755, bounds);
    let mut planting = planting.expect("nothing is in the way");
    let whole = nodes.iter().try_for_each(|node| planting.take(node));
    let whole = whole.and_then(|()| planting.finish()).is_ok();
    assert_eq!(names(&place.0), ["within"]);
    assert_eq!(names(&within), if whole { vec!["it"] } else { Vec::new() });
}

#[cfg(test)]
mod tests {
    #[test]
    fn whatever_a_host_says_is_heard_to_its_end() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/host_protocol");
        let mut heard = 0;
        for seed in std::fs::read_dir(folder).unwrap() {
            super::hears(&std::fs::read(seed.unwrap().path()).unwrap());
            heard += 1;
        }
        assert!(heard > 0, "there are seeds");
    }
}
