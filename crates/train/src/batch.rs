use wdsr_kernels::Planes;

/// The patches of an update, as gradients are computed from them: 3 planes each, R G B, 0..1.
pub struct Batch {
    /// Low resolution.
    pub low: Vec<Planes>,
    /// High resolution.
    pub high: Vec<Planes>,
    /// The teacher's output for the low resolution, of the shapes of `high`; empty without a
    /// teacher.
    pub taught: Vec<Planes>,
}
