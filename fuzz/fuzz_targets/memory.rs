//! How much memory an input takes: no more than so many times its size.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// What an engine with a session takes, whatever is sent to it.
const BASE: usize = 4 << 20;

/// Bytes that a byte of an input may take: two of them may be a user to attach, which is refused in
/// more than a thousand.
const TIMES: usize = 1024;

/// Bytes that all of an input may take besides, however long it is.
const ALL: usize = 64 << 20;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

fn grown(by: usize) {
    MOST.fetch_max(NOW.fetch_add(by, Relaxed) + by, Relaxed);
}

// SAFETY: everything is the system's; it is only counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Goes through an input, which must keep to the bound.
pub fn bounded(data: &[u8], run: fn(&[u8])) {
    let before = NOW.load(Relaxed);
    MOST.store(before, Relaxed);
    run(data);
    let most = MOST.load(Relaxed).saturating_sub(before);
    let bound = BASE + (TIMES * data.len()).min(ALL);
    assert!(most <= bound, "{} bytes take {most}", data.len());
}
