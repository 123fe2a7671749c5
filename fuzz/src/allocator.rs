//! An allocator with a limit: a few bytes that become many are a finding, also where the machine has the memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, counted.
#[derive(Debug)]
pub struct Limited {
    used: AtomicUsize,
    most: AtomicUsize,
}

impl Limited {
    /// Without a limit.
    #[expect(clippy::new_without_default, reason = "it is made for a static")]
    pub const fn new() -> Self {
        Self {
            used: AtomicUsize::new(0),
            most: AtomicUsize::new(usize::MAX),
        }
    }

    /// Does something that may hold so many bytes beside what is held already.
    pub fn within<T>(&self, bytes: usize, work: impl FnOnce() -> T) -> T {
        let before = self.used.load(Ordering::Relaxed);
        self.most.store(before + bytes, Ordering::Relaxed);
        let done = work();
        self.most.store(usize::MAX, Ordering::Relaxed);
        done
    }

    fn add(&self, bytes: usize) {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if used > self.most.load(Ordering::Relaxed) {
            // To tell it takes memory as well.
            self.most.store(usize::MAX, Ordering::Relaxed);
            eprintln!("{bytes} bytes more are beyond the budget of this input");
            std::process::abort();
        }
    }
}

// SAFETY: everything is the system's allocator's; this counts.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.add(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.used.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}
