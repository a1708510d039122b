//! The segments of a result, in a folder beside it, by which an interrupted run resumes.
//!
//! A segment is a NUT file of the encoded video of so many frames. `state.json` lists those that are
//! complete, and all that they depend on.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::nut::FILE_ID_BYTES;
use crate::progress;

/// What a segment depends on: names and values.
pub(super) type Dependencies = BTreeMap<String, String>;

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    depends_on: Dependencies,
    segments: Vec<Segment>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Segment {
    frames: u64,
    bytes: u64,
}

pub(super) struct Segments {
    folder: PathBuf,
    /// Frames of all segments but the last.
    length_frames: u64,
    state: State,
    /// Locked against other runs.
    _lock: File,
}

impl Segments {
    /// Opens or creates the folder of a result. Segments that depend on something else are removed.
    ///
    /// # Errors
    /// If another run uses the folder.
    pub(super) fn open(
        output: &Path,
        length_frames: u64,
        depends_on: Dependencies,
    ) -> anyhow::Result<Self> {
        let mut name = OsString::from(output.file_name().unwrap_or_default());
        name.push(".wdsr-segments");
        let folder = output.with_file_name(name);
        let cannot_write = || format!("{}: cannot write", folder.display());
        fs::create_dir_all(&folder).with_context(cannot_write)?;
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join("lock"))
            .with_context(cannot_write)?;
        // File systems without locks count as locked.
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            bail!("{}: another run writes this video", output.display());
        }
        let text = fs::read(folder.join("state.json")).unwrap_or_default();
        let mut state: State = serde_json::from_slice(&text).unwrap_or_default();
        let mut segments = Self {
            folder,
            length_frames,
            state: State::default(),
            _lock: lock,
        };
        let is_there = |(at, segment): (usize, &Segment)| {
            let file = fs::metadata(segments.path(at));
            file.is_ok_and(|file| file.len() == segment.bytes)
        };
        let count = state.segments.iter().enumerate();
        let count = count.take_while(|segment| is_there(*segment)).count();
        state.segments.truncate(count);
        let changed = depends_on
            .iter()
            .filter(|(name, value)| state.depends_on.get(*name) != Some(value));
        let changed: Vec<&str> = changed.map(|(name, _)| name.as_str()).collect();
        if !changed.is_empty() {
            if count > 0 {
                let frames: u64 = state.segments.iter().map(|segment| segment.frames).sum();
                progress::note(&format!(
                    "{}: {frames} frames of an interrupted run are of another {}; starting again",
                    output.display(),
                    changed.join(", ")
                ));
            }
            state = State {
                depends_on,
                segments: Vec::new(),
            };
        }
        segments.state = state;
        segments.remove_others()?;
        Ok(segments)
    }

    /// Removes files that are not of the state. An encoder that outlived its run may still write to one.
    fn remove_others(&self) -> anyhow::Result<()> {
        let kept: Vec<PathBuf> = (0..self.state.segments.len())
            .map(|at| self.path(at))
            .chain(["lock", "state.json"].map(|name| self.folder.join(name)))
            .collect();
        let cannot_remove = || format!("{}: cannot clear the folder", self.folder.display());
        for file in fs::read_dir(&self.folder).with_context(cannot_remove)? {
            let path = file.with_context(cannot_remove)?.path();
            if !kept.contains(&path) {
                fs::remove_file(&path).with_context(cannot_remove)?;
            }
        }
        Ok(())
    }

    fn path(&self, at: usize) -> PathBuf {
        self.folder.join(format!("{at:06}.nut"))
    }

    /// A path in the folder for a temporary file.
    pub(super) fn temporary(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The first segment, if it is complete.
    pub(super) fn first(&self) -> Option<PathBuf> {
        (!self.state.segments.is_empty()).then(|| self.path(0))
    }

    pub(super) fn length_frames(&self) -> u64 {
        self.length_frames
    }

    /// Frames in the complete segments.
    pub(super) fn frames(&self) -> u64 {
        self.state
            .segments
            .iter()
            .map(|segment| segment.frames)
            .sum()
    }

    /// Whether the video ended within the last segment.
    pub(super) fn have_end(&self) -> bool {
        let last = self.state.segments.last();
        last.is_some_and(|segment| segment.frames < self.length_frames)
    }

    /// The file for the segment that begins after `frames` frames, and its path until it is complete.
    ///
    /// # Errors
    /// If it cannot be created.
    pub(super) fn create(&self, frames: u64) -> anyhow::Result<(File, PathBuf)> {
        let path = self.temporary(&format!("{}.part", frames / self.length_frames));
        let file = File::create(&path);
        let file = file.with_context(|| format!("{}: cannot write", path.display()))?;
        Ok((file, path))
    }

    /// Adds the next segment, whose file is complete at `path`.
    ///
    /// # Errors
    /// If the disk is full, for example.
    pub(super) fn add(&mut self, file: &File, path: &Path, frames: u64) -> anyhow::Result<()> {
        let complete = self.path(self.state.segments.len());
        let mut write = || {
            file.sync_all()?;
            let bytes = file.metadata()?.len();
            fs::rename(path, &complete)?;
            self.state.segments.push(Segment { frames, bytes });
            let state = serde_json::to_vec_pretty(&self.state)?;
            wdsr_atomic_file::write(&self.folder.join("state.json"), &state)
        };
        write().with_context(|| format!("{}: cannot write", complete.display()))
    }

    /// Writes the video of all segments as one NUT file.
    ///
    /// # Errors
    /// If a segment cannot be read, or the output not written.
    pub(super) fn join(&self, output: &mut impl Write) -> io::Result<()> {
        for at in 0..self.state.segments.len() {
            let mut file = File::open(self.path(at))?;
            if at > 0 {
                file.seek(SeekFrom::Start(FILE_ID_BYTES))?;
            }
            io::copy(&mut file, output)?;
        }
        output.flush()
    }

    /// Removes the folder.
    pub(super) fn remove(self) -> anyhow::Result<()> {
        let removed = fs::remove_dir_all(&self.folder);
        removed.with_context(|| format!("{}: cannot remove", self.folder.display()))
    }
}
