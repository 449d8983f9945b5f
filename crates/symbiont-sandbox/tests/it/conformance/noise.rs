/// Bytes of every value but that of a line's end, the same every time. The probe has this text at its
/// end.
pub(crate) fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let byte = state.to_le_bytes()[0];
        if byte == b'\n' { 0x1b } else { byte }
    };
    (0..count).map(next).collect()
}
