/// Whether so many bytes of memory can be had now. An allocation that fails amid the work ends the
/// program without a message, so ask before.
pub fn is_memory_free(bytes: u128) -> bool {
    let mut probe: Vec<u8> = Vec::new();
    let free = usize::try_from(bytes).is_ok_and(|size| probe.try_reserve_exact(size).is_ok());
    // Else the compiler may leave out an allocation that nothing uses.
    std::hint::black_box(&probe);
    free
}
