//! A hash tree over messages that one signature covers, as RFC 6962 builds it.
//!
//! # What holds
//!
//! - Leaves and nodes are hashed under different first bytes: no node passes for a leaf.
//! - A path is as long as its place in a tree of that size requires: nothing can be left out or added.

use aws_lc_rs::digest::{Context, SHA256};

pub(crate) type Hash = [u8; 32];

/// The hash of a leaf.
pub(crate) fn leaf(bytes: &[u8]) -> Hash {
    hash(&[&[0], bytes])
}

fn node(left: &Hash, right: &Hash) -> Hash {
    hash(&[&[1], left, right])
}

fn hash(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The root over `leaves`, of which there has to be one, and the path of each: the hashes beside the
/// way from the leaf to the root.
pub(crate) fn grow(leaves: &[Hash]) -> (Hash, Vec<Vec<Hash>>) {
    let mut paths = vec![Vec::new(); leaves.len()];
    let root = join(leaves, &mut paths);
    (root, paths)
}

fn join(leaves: &[Hash], paths: &mut [Vec<Hash>]) -> Hash {
    if let [leaf] = leaves {
        return *leaf;
    }
    // The largest power of two that leaves something for the right side.
    let middle = leaves.len().next_power_of_two() / 2;
    let (left_paths, right_paths) = paths.split_at_mut(middle);
    let left = join(&leaves[..middle], left_paths);
    let right = join(&leaves[middle..], right_paths);
    left_paths.iter_mut().for_each(|path| path.push(right));
    right_paths.iter_mut().for_each(|path| path.push(left));
    node(&left, &right)
}

/// The root to which `path` leads from the leaf at `index` of `count`; `None` when it leads nowhere.
pub(crate) fn climb<'a>(
    leaf: Hash,
    index: u32,
    count: u32,
    path: impl Iterator<Item = &'a Hash>,
) -> Option<Hash> {
    if index >= count {
        return None;
    }
    // RFC 9162, section 2.1.3.2.
    let (mut at, mut last) = (index, count - 1);
    let mut root = leaf;
    for beside in path {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            root = node(beside, &root);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            root = node(&root, beside);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    (last == 0).then_some(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_of_every_tree_leads_to_its_root_from_its_own_place_only() {
        for count in 1..=33_u32 {
            let leaves: Vec<Hash> = (0..count).map(|n| leaf(&n.to_be_bytes())).collect();
            let (root, paths) = grow(&leaves);
            for (index, (leaf, path)) in (0..).zip(leaves.iter().zip(&paths)) {
                assert_eq!(climb(*leaf, index, count, path.iter()), Some(root));
                for other in (0..count + 1).filter(|other| *other != index) {
                    assert_ne!(climb(*leaf, other, count, path.iter()), Some(root));
                }
                let longer = path.iter().chain([&root]);
                assert_ne!(climb(*leaf, index, count, longer), Some(root));
                let shorter = path.iter().take(path.len().saturating_sub(1));
                assert!(count == 1 || climb(*leaf, index, count, shorter) != Some(root));
            }
        }
    }

    #[test]
    fn the_root_is_that_of_rfc_6962() {
        // The test vectors of the certificate transparency project: the first two leaves.
        let (root, _) = grow(&[leaf(b""), leaf(b"\0")]);
        let want = "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125";
        assert_eq!(crate::audit::hex(&root), want);
    }
}
