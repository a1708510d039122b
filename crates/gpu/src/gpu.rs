//! An adapter that is open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wdsr_model::{Device, DeviceChoice, DeviceError, DeviceNetwork, DevicePrecision, Model};
use wgpu::{ErrorFilter, Features, Limits};

use crate::adapter::{self, AdapterKind, AdapterSummary, Choice, MATRICES_OFF, MATRICES_VARIABLE};
use crate::matrices::{MEMORY_BYTES, Matrices};
use crate::network::GpuNetwork;
use crate::peak;
use crate::tuning::{Tuning, Workgroups};

/// Why no adapter was opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no adapter.
    #[error(
        "no GPU found: expected a driver for Vulkan, Metal or Direct3D 12; install the driver of the card"
    )]
    NoAdapter,
    /// There are software adapters only.
    #[error(
        "no GPU found, only software ({software}), which is slower than --device cpu; name it by gpu:N to use it \
         all the same"
    )]
    OnlySoftware {
        /// Their names.
        software: String,
    },
    /// No adapter has the number.
    #[error(
        "gpu:{index}: expected a number below {count}, of an adapter that `wdsr devices` lists"
    )]
    NoSuchAdapter {
        /// The number.
        index: usize,
        /// The number of adapters.
        count: usize,
    },
    /// An environment variable has a value that means nothing.
    #[error("{MATRICES_VARIABLE}={value}: expected {MATRICES_OFF}; set it so, or unset it")]
    Matrices {
        /// The value.
        value: String,
    },
    /// The driver did not open the adapter.
    #[error("{device}: cannot be opened: {reason}; update its driver")]
    Refused {
        /// The adapter.
        device: String,
        /// What the driver says.
        reason: String,
    },
}

/// A GPU on which networks are computed. Results are the same bit for bit on one adapter and driver; other adapters may differ in
/// the last bits.
pub struct Gpu {
    summary: AdapterSummary,
    choice: Choice,
    is_optional: bool,
    tuning: Tuning,
    open: Mutex<Arc<Open>>,
    warnings: Mutex<Vec<String>>,
}

impl Gpu {
    /// Opens an adapter.
    ///
    /// # Errors
    /// If there is none, or its driver refuses.
    pub fn open(choice: Choice) -> Result<Self, OpenError> {
        let (open, summary) = Open::new(choice)?;
        Ok(Self {
            summary,
            choice,
            is_optional: false,
            tuning: Tuning::default(),
            open: Mutex::new(Arc::new(open)),
            warnings: Mutex::default(),
        })
    }

    /// Opens the GPU of a device; `None` for the processor. With [`DeviceChoice::Auto`] the processor computes, with a
    /// warning, what the GPU cannot; else that is an error. The shapes of workgroups that are measured when a network is first
    /// prepared are kept in the user's cache, in `wdsr/workgroups.json`.
    ///
    /// # Errors
    /// As [`open`](Self::open). After [`DeviceChoice::Auto`] the processor is left.
    pub fn of_choice(choice: DeviceChoice) -> Result<Option<Self>, OpenError> {
        let adapter = match choice {
            DeviceChoice::Cpu => return Ok(None),
            DeviceChoice::Auto | DeviceChoice::Gpu(None) => Choice::Hardware,
            DeviceChoice::Gpu(Some(index)) => Choice::Index(index),
        };
        let mut gpu = Self::open(adapter)?;
        gpu.is_optional = choice == DeviceChoice::Auto;
        gpu.tuning = Tuning::of_user();
        Ok(Some(gpu))
    }

    /// The adapter.
    pub fn summary(&self) -> &AdapterSummary {
        &self.summary
    }

    /// Multiply-adds as fast as the adapter computes them, in GFLOP/s (two operations each), in f16 those of matrices where it
    /// has them; takes about `seconds`.
    ///
    /// # Errors
    /// If the device fails, or lacks f16 if that is chosen.
    pub fn peak_gflops(
        &self,
        precision: DevicePrecision,
        seconds: f64,
    ) -> Result<f64, DeviceError> {
        peak::gflops(&*self.current()?, precision, seconds)
    }

    /// Makes the driver lose the device, for tests.
    #[doc(hidden)]
    pub fn lose(&self) {
        lock(&self.open).device.destroy();
    }

    /// Why vectors are multiplied where the adapter has matrices.
    pub(crate) fn matrices_warning(&self) -> String {
        format!(
            "{}: its driver multiplies matrices wrongly, so vectors are multiplied, which is slower; update the driver",
            self.summary.name
        )
    }

    /// The open device; opened again if it was lost.
    pub(crate) fn current(&self) -> Result<Arc<Open>, DeviceError> {
        let mut open = lock(&self.open);
        if lock(&open.lost).is_some() {
            let (again, _) = Open::new(self.choice).map_err(|error| DeviceError::Lost {
                device: self.summary.name.clone(),
                reason: error.to_string(),
            })?;
            *open = Arc::new(again);
        }
        Ok(Arc::clone(&open))
    }
}

impl Device for Gpu {
    fn name(&self) -> &str {
        &self.summary.name
    }

    fn driver_text(&self) -> String {
        self.summary.driver_text()
    }

    fn has_f16(&self) -> bool {
        self.summary.has_f16
    }

    fn prepare(
        &self,
        model: &Model,
        precision: DevicePrecision,
    ) -> Result<Box<dyn DeviceNetwork>, DeviceError> {
        let open = self.current()?;
        let matrices = open.matrices_in(precision);
        let workgroups = match self.summary.kind {
            // It runs on the processor, whose other work would disturb a measurement.
            AdapterKind::Software => Workgroups::of_matrices(matrices),
            _ => (self.tuning).workgroups(&open, &self.summary, model, precision)?,
        };
        if matrices.is_some() && !workgroups.are_of_matrices {
            self.warn(self.matrices_warning());
        }
        let network = GpuNetwork::new(open, model, precision, workgroups)?;
        Ok(Box::new(network))
    }

    fn is_optional(&self) -> bool {
        self.is_optional
    }

    fn warn(&self, message: String) {
        lock(&self.warnings).push(message);
    }

    fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.warnings))
    }
}

/// A device and what was compiled for it.
pub(crate) struct Open {
    pub(crate) name: String,
    pub(crate) kind: AdapterKind,
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) max_buffer_bytes: u64,
    pub(crate) matrices: Option<Matrices>,
    /// By their text.
    pipelines: Mutex<HashMap<String, wgpu::ComputePipeline>>,
    lost: Arc<Mutex<Option<String>>>,
}

impl Open {
    /// A buffer of zeros. Within [`checked`](Self::checked) too little memory is an error.
    pub(crate) fn buffer(&self, bytes: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage,
            mapped_at_creation: false,
        })
    }

    /// The matrices that products in a precision may be of.
    pub(crate) fn matrices_in(&self, precision: DevicePrecision) -> Option<Matrices> {
        (self.matrices).filter(|_| precision == DevicePrecision::F16)
    }

    fn new(choice: Choice) -> Result<(Self, AdapterSummary), OpenError> {
        if let Some(value) = std::env::var_os(MATRICES_VARIABLE)
            && value != MATRICES_OFF
        {
            let value = value.to_string_lossy().into_owned();
            return Err(OpenError::Matrices { value });
        }
        let (adapter, summary) = adapter::find(choice).map_err(|all| match choice {
            _ if all.is_empty() => OpenError::NoAdapter,
            Choice::Index(index) => OpenError::NoSuchAdapter {
                index,
                count: all.len(),
            },
            Choice::Hardware => {
                let names: Vec<_> = all.into_iter().map(|adapter| adapter.name).collect();
                let software = names.join(", ");
                OpenError::OnlySoftware { software }
            }
        })?;
        let device_name = || summary.name.clone();
        let limits = adapter.limits();
        let mut features = adapter.features() & Features::SHADER_F16;
        let mut least = Limits::downlevel_defaults();
        if summary.matrices.is_some() {
            features |= Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
            least.max_compute_workgroup_storage_size = MEMORY_BYTES as u32;
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("wdsr"),
            required_features: features,
            experimental_features: match summary.matrices {
                Some(_) => experimental_features(),
                None => wgpu::ExperimentalFeatures::disabled(),
            },
            required_limits: Limits {
                max_storage_buffer_binding_size: limits.max_storage_buffer_binding_size,
                max_buffer_size: limits.max_buffer_size,
                ..least
            },
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let opened = pollster::block_on(adapter.request_device(&descriptor));
        let (device, queue) = opened.map_err(|error| OpenError::Refused {
            device: device_name(),
            reason: error.to_string(),
        })?;
        let lost = Arc::new(Mutex::new(None));
        let on_loss = Arc::clone(&lost);
        device.set_device_lost_callback(move |reason, message| {
            let reason = match message.is_empty() {
                true => format!("{reason:?}"),
                false => message,
            };
            lock(&on_loss).get_or_insert(reason);
        });
        // Errors are caught where they arise; by default one that is not ends the process.
        let uncaught = Arc::clone(&lost);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            lock(&uncaught).get_or_insert(error.to_string());
        }));
        let open = Self {
            name: summary.name.clone(),
            kind: summary.kind,
            device,
            queue,
            max_buffer_bytes: summary.max_buffer_bytes,
            matrices: summary.matrices,
            pipelines: Mutex::default(),
            lost,
        };
        Ok((open, summary))
    }

    /// The kernel of a text, compiled once.
    pub(crate) fn pipeline(&self, text: &str) -> Result<wgpu::ComputePipeline, DeviceError> {
        let mut pipelines = lock(&self.pipelines);
        if let Some(pipeline) = pipelines.get(text) {
            return Ok(pipeline.clone());
        }
        let pipeline = self.checked(|| {
            let module = self
                .device
                .create_shader_module(wgpu::ShaderModuleDescriptor {
                    label: None,
                    source: wgpu::ShaderSource::Wgsl(text.into()),
                });
            self.device
                .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                    label: None,
                    layout: None,
                    module: &module,
                    entry_point: None,
                    compilation_options: wgpu::PipelineCompilationOptions {
                        // Every kernel writes what it reads of its workgroup's memory.
                        zero_initialize_workgroup_memory: false,
                        ..Default::default()
                    },
                    cache: None,
                })
        })?;
        pipelines.insert(text.to_owned(), pipeline.clone());
        Ok(pipeline)
    }

    /// Runs calls of the driver, and returns their first error.
    pub(crate) fn checked<T>(&self, calls: impl FnOnce() -> T) -> Result<T, DeviceError> {
        let filters = [
            ErrorFilter::Internal,
            ErrorFilter::Validation,
            ErrorFilter::OutOfMemory,
        ];
        let scopes = filters.map(|filter| self.device.push_error_scope(filter));
        let result = calls();
        // Popped in reverse order.
        let errors = scopes
            .into_iter()
            .rev()
            .map(|scope| pollster::block_on(scope.pop()));
        let error = errors.fold(None, |first, error| first.or(error));
        if error.is_some() {
            // A loss is told by a callback, which this runs.
            let _ = self.device.poll(wgpu::PollType::Poll);
        }
        self.check_lost()?;
        let device = self.name.clone();
        match error {
            None => Ok(result),
            Some(wgpu::Error::OutOfMemory { .. }) => Err(DeviceError::OutOfMemory { device }),
            Some(error) => Err(DeviceError::Failed {
                device,
                reason: error.to_string().replace('\n', " "),
            }),
        }
    }

    /// # Errors
    /// If the device was lost.
    pub(crate) fn check_lost(&self) -> Result<(), DeviceError> {
        match &*lock(&self.lost) {
            None => Ok(()),
            Some(reason) => Err(DeviceError::Lost {
                device: self.name.clone(),
                reason: reason.clone(),
            }),
        }
    }

    /// The first numbers of a buffer, after all that was submitted, by way of one that the program can read.
    #[cfg(feature = "train")]
    pub(crate) fn numbers(
        &self,
        buffer: &wgpu::Buffer,
        read: &wgpu::Buffer,
        count: usize,
    ) -> Result<Vec<f32>, DeviceError> {
        let bytes = 4 * count as u64;
        let (sender, mapped) = std::sync::mpsc::channel();
        let submission = self.checked(|| {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(buffer, 0, read, 0, bytes);
            let submission = self.queue.submit([encoder.finish()]);
            read.slice(..bytes)
                .map_async(wgpu::MapMode::Read, move |result| {
                    // The receiver is gone if the device was lost.
                    let _ = sender.send(result);
                });
            submission
        })?;
        self.wait(submission)?;
        let failed = |reason: String| DeviceError::Failed {
            device: self.name.clone(),
            reason,
        };
        match mapped.recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed("it returned no result".to_owned())),
        }
        let view = read.slice(..bytes).get_mapped_range();
        let view = view.map_err(|error| failed(error.to_string()))?;
        let numbers = bytemuck::pod_collect_to_vec(&view);
        drop(view);
        read.unmap();
        Ok(numbers)
    }

    /// Waits for a submission.
    pub(crate) fn wait(&self, submission: wgpu::SubmissionIndex) -> Result<(), DeviceError> {
        let polled = self.device.poll(wgpu::PollType::Wait {
            submission_index: Some(submission),
            timeout: None,
        });
        self.check_lost()?;
        polled.map(drop).or_else(|error| {
            // A device that was lost accepts no work; not every driver tells.
            lock(&self.lost).get_or_insert(error.to_string());
            self.check_lost()
        })
    }
}

/// Leave to use what wgpu calls experimental.
#[expect(unsafe_code, reason = "wgpu asks for it")]
fn experimental_features() -> wgpu::ExperimentalFeatures {
    // SAFETY: the one such feature that is asked for is cooperative matrices, whose unsoundness is that a driver may
    // behave in any way where a kernel breaks the rules of its extension. The kernels of `matrices` keep them: all threads of
    // a workgroup reach each of these operations, since no condition around one depends on a thread; loads and stores lie
    // within their arrays, since their indices are constants, numbers of workgroups and numbers of subgroups.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}

/// Locks a mutex even if another thread has panicked: what the mutexes here guard is written as a whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
