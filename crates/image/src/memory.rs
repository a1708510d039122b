/// Whether this many bytes of memory are available now. An allocation that fails amid the work ends
/// the program without a message, so callers check before it.
pub fn is_memory_free(bytes: u128) -> bool {
    let mut probe: Vec<u8> = Vec::new();
    let free = usize::try_from(bytes).is_ok_and(|size| probe.try_reserve_exact(size).is_ok());
    // Keeps the compiler from removing the unused allocation.
    std::hint::black_box(&probe);
    free
}
