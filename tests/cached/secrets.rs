//! Searches the writable memory of this process, which a heap dump contains.
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

/// This test itself holds the token and its digest only masked.
const MASK: u8 = 0xa5;

const CHUNK: usize = 1 << 20;

/// The length of a piece that counts as found.
const PIECE: usize = 16;

#[tokio::test]
async fn keeps_only_digest_of_cached_token_in_memory() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::new(&tokens);
    // Searching takes longer than the negative ttl, and may take longer than a lookup.
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
        remote.after_reading().close();
        let request = tokio::spawn(find(cached.clone(), token.clone()));
        remote.after_reading().wait_until_reached().await;
        request.abort();
        request.await.unwrap_err();
        scrub_stack();
        assert!(copies(&token) > 0, "the running lookup needs the token");

        remote.after_reading().reopen();
        remote.after_reading().resume_one();
        while cached.occupancy().in_flight > 0 {
            tokio::task::yield_now().await;
        }
        scrub_stack();
        assert_eq!(copies(&token), 0, "known: {is_known}");
        assert!(copies(&digest) > 0, "the cache has the digest");
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

fn unmasked(token: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::with_capacity(token.len()));
    text.extend(token.iter().map(|byte| byte ^ MASK));
    text
}

fn masked_digest(token: &[u8]) -> [u8; 32] {
    let text = unmasked(token);
    let credential = Credential::new(PresentedToken::from_bytes(&text).unwrap());
    credential.digest().as_bytes().map(|byte| byte ^ MASK)
}

async fn find(cached: CachedStore<RemoteStore>, token: Vec<u8>) {
    let text = unmasked(&token);
    let credential = Credential::new(PresentedToken::from_bytes(&text).unwrap());
    // The hasher leaves its block behind; a task's future would take it along as padding.
    scrub_stack();
    let _ = cached.find(&credential).await;
}

/// Overwrites the stack below, where returned functions left data such as the hashed block.
#[inline(never)]
#[expect(
    clippy::large_stack_arrays,
    reason = "it is the stack that is to be overwritten"
)]
fn scrub_stack() {
    black_box(&mut [0_u8; 512 * 1024]);
}

/// Counts the occurrences in memory of the first, middle and last bytes of a masked secret.
fn copies(masked: &[u8]) -> usize {
    let pieces = [0, (masked.len() - PIECE) / 2, masked.len() - PIECE];
    let pieces = pieces.map(|start| &masked[start..start + PIECE]);
    let memory = File::open("/proc/self/mem").unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut count = 0;
    let mut searched = 0;
    // Zeroed afterwards, because it holds copies of what is found.
    let mut buffer = vec![0; CHUNK];
    for (start, end) in maps.lines().filter_map(writable) {
        // Chunks overlap, so that no piece is cut.
        for start in (start..end).step_by(CHUNK - PIECE) {
            let length = CHUNK.min(usize::try_from(end - start).unwrap());
            let chunk = &mut buffer[..length];
            // The thread of another test may have ended, and its stack with it.
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

fn writable(line: &str) -> Option<(u64, u64)> {
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
        let is_here = |piece: &&&[u8]| piece.iter().zip(found).all(|(a, b)| a ^ MASK == *b);
        count += pieces.iter().filter(is_here).count();
    }
    count
}
