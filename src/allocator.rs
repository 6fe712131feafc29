//! The program's memory: jemalloc, and how it is set.
//!
//! Events are made on one thread and let go of on another, all day long. The C library's allocator
//! keeps an arena for each thread, and gives little of that back; docs/PERFORMANCE.md has figures.

#![expect(unsafe_code, reason = "jemalloc finds its settings by the name of a symbol")]

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Few arenas, and what is let go of goes back to the system after a tenth of a second: sled makes
/// and lets go of large buffers all the time. Large pages would take more memory than they spare
/// time, so jemalloc asks the kernel for none, whatever the system's setting.
// SAFETY: jemalloc reads it as a pointer to a text that ends with a zero byte, which this is.
#[unsafe(export_name = "_rjem_malloc_conf")]
static SETTINGS: &[u8; 56] = b"narenas:2,dirty_decay_ms:100,muzzy_decay_ms:0,thp:never\0";
