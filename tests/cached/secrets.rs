//! Searches the writable memory of this process, as far as a heap dump would contain it.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use tower_service_token::MemoryStore;
use tower_service_token::digest::TokenDigest;
use tower_service_token::store::{CachedStore, Credential, TokenRecord, TokenStore};
use tower_service_token::token::PresentedToken;
use zeroize::Zeroizing;

use crate::node::{clock, mint};
use crate::remote_store::RemoteStore;

/// The test keeps the token and its digest only masked, so that it does not find its own copies.
const MASK: u8 = 0xa5;

const CHUNK: usize = 1 << 20;

/// The length of the searched pieces of a secret.
const PIECE: usize = 16;

#[tokio::test]
async fn memory_contains_only_the_digest_of_a_cached_token() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::new(&tokens);
    // A search takes longer than the negative TTL, and may exceed the default lookup timeout.
    let cached = CachedStore::new(remote.clone())
        .with_clock(clock())
        .with_lookup_timeout(Duration::from_secs(600));
    for is_known in [true, false] {
        let token = masked_token();
        let digest = masked_digest(&token);
        if is_known {
            let digest = TokenDigest::from_bytes(digest.map(|byte| byte ^ MASK));
            tokens
                .insert(TokenRecord::new(mint().id(), digest))
                .unwrap();
        }
        remote.after_read().close();
        let request = tokio::spawn(find(cached.clone(), token.clone()));
        remote.after_read().wait_until_reached().await;
        request.abort();
        request.await.unwrap_err();
        scrub_stack();
        assert!(
            count_copies(&token) > 0,
            "the running lookup needs the token"
        );

        remote.after_read().reopen();
        remote.after_read().resume_one();
        while cached.occupancy().in_flight > 0 {
            tokio::task::yield_now().await;
        }
        scrub_stack();
        assert_eq!(count_copies(&token), 0, "known: {is_known}");
        assert!(count_copies(&digest) > 0, "the cache has the digest");
    }
    let occupancy = cached.occupancy();
    assert_eq!((occupancy.positive, occupancy.negative), (1, 1));
}

fn masked_token() -> Vec<u8> {
    let mut random = [0; 48];
    getrandom::fill(&mut random).unwrap();
    random
        .iter()
        .map(|byte| (b'a' + byte % 26) ^ MASK)
        .collect()
}

fn unmask(token: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::with_capacity(token.len()));
    text.extend(token.iter().map(|byte| byte ^ MASK));
    text
}

fn masked_digest(token: &[u8]) -> [u8; 32] {
    let text = unmask(token);
    let credential = Credential::new(PresentedToken::from_bytes(&text).unwrap());
    credential.digest().as_bytes().map(|byte| byte ^ MASK)
}

async fn find(cached: CachedStore<RemoteStore>, token: Vec<u8>) {
    let text = unmask(&token);
    let credential = Credential::new(PresentedToken::from_bytes(&text).unwrap());
    // The hasher leaves its block on the stack, from which the future of the task may copy it.
    scrub_stack();
    let _ = cached.find(&credential).await;
}

/// Overwrites the free part of the stack, where returned functions left data such as the hashed
/// block.
#[inline(never)]
#[expect(
    clippy::large_stack_arrays,
    reason = "the array must be on the stack to overwrite it"
)]
fn scrub_stack() {
    black_box(&mut [0_u8; 512 * 1024]);
}

/// Counts the occurrences in memory of the first, middle and last bytes of a masked secret.
fn count_copies(masked: &[u8]) -> usize {
    let pieces = [0, (masked.len() - PIECE) / 2, masked.len() - PIECE];
    let pieces = pieces.map(|start| &masked[start..start + PIECE]);
    let memory = File::open("/proc/self/mem").unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut count = 0;
    let mut searched = 0;
    // Zeroed at the end, because it contains copies of the secrets.
    let mut buffer = vec![0; CHUNK];
    for (start, end) in maps.lines().filter_map(parse_writable_range) {
        // Chunks overlap, so that no piece is cut.
        for start in (start..end).step_by(CHUNK - PIECE) {
            let length = CHUNK.min(usize::try_from(end - start).unwrap());
            let chunk = &mut buffer[..length];
            // The mapping may be gone, such as the stack of a thread that has ended.
            if memory.read_exact_at(chunk, start).is_ok() {
                searched += length;
                count += occurrences(chunk, &pieces);
            }
        }
    }
    black_box(&mut buffer).fill(0);
    assert!(searched > 1 << 20, "only {searched} bytes");
    count
}

fn parse_writable_range(line: &str) -> Option<(u64, u64)> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let is_writable = fields.next()?.starts_with("rw");
    let bounds = [start, end].map(|bound| u64::from_str_radix(bound, 16).unwrap());
    is_writable.then_some((bounds[0], bounds[1]))
}

fn occurrences(bytes: &[u8], pieces: &[&[u8]]) -> usize {
    let firsts: Vec<u8> = pieces.iter().map(|piece| piece[0] ^ MASK).collect();
    let mut count = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if !firsts.contains(byte) {
            continue;
        }
        let Some(found) = bytes.get(at..at + PIECE) else {
            break;
        };
        let matches_piece = |piece: &&&[u8]| piece.iter().zip(found).all(|(a, b)| a ^ MASK == *b);
        count += pieces.iter().filter(matches_piece).count();
    }
    count
}
