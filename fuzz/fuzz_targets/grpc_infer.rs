#![no_main]

use onstage_fuzz::allocator::Limited;
use onstage_fuzz::targets::{MEMORY, target};

#[global_allocator]
static ALLOCATOR: Limited = Limited::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| ALLOCATOR.within(MEMORY, || target("grpc_infer")(data)));
