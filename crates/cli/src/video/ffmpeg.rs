//! The programs ffmpeg and ffprobe, run as processes of their own.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};

/// The last lines of a program's messages that are kept.
const MAX_MESSAGES: usize = 4;

/// A program of ffmpeg that cannot be run, or that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FfmpegError {
    #[error(
        "{0} is not on the PATH; install the package ffmpeg, 5.1 or newer (apt, dnf, brew or winget install ffmpeg)"
    )]
    Missing(&'static str),
    #[error("cannot run {0}")]
    Start(&'static str, #[source] io::Error),
    #[error("{work}: {program} failed ({status}): {messages}")]
    Failed {
        work: String,
        program: &'static str,
        status: ExitStatus,
        messages: String,
        /// That the disk is full.
        #[source]
        source: Option<io::Error>,
    },
}

/// A running program, which is killed if this is dropped.
pub(super) struct Process {
    program: &'static str,
    /// What it works at, for errors.
    work: String,
    child: Child,
    messages: Option<JoinHandle<VecDeque<String>>>,
}

impl Process {
    pub(super) fn start(
        program: &'static str,
        arguments: impl IntoIterator<Item = OsString>,
        stdout: Stdio,
        work: String,
    ) -> Result<Self, FfmpegError> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(Stdio::piped());
        // A Ctrl-C of the terminal is for this program, which ends the others when it is time.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        #[cfg(windows)]
        std::os::windows::process::CommandExt::creation_flags(&mut command, 0x200);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => FfmpegError::Missing(program),
            _ => FfmpegError::Start(program, error),
        })?;
        let stderr = child.stderr.take();
        let messages = thread::spawn(move || {
            let mut last = VecDeque::new();
            let lines = stderr
                .into_iter()
                .flat_map(|stderr| BufReader::new(stderr).split(b'\n'));
            for line in lines.map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim().to_owned();
                if line.is_empty() {
                    continue;
                }
                if last.len() == MAX_MESSAGES {
                    last.pop_front();
                }
                last.push_back(line);
            }
            last
        });
        Ok(Self {
            program,
            work,
            child,
            messages: Some(messages),
        })
    }

    /// Its standard input, once.
    pub(super) fn stdin(&mut self) -> ChildStdin {
        let stdin = self.child.stdin.take();
        stdin.unwrap_or_else(|| panic!("{}: the standard input is taken", self.program))
    }

    /// Its standard output, once.
    pub(super) fn stdout(&mut self) -> ChildStdout {
        let stdout = self.child.stdout.take();
        stdout.unwrap_or_else(|| panic!("{}: the standard output is taken", self.program))
    }

    /// Waits for its end. Returns its messages.
    ///
    /// # Errors
    /// If it failed.
    pub(super) fn finish(mut self) -> Result<String, FfmpegError> {
        let status = self.child.wait();
        let status = status.map_err(|error| FfmpegError::Start(self.program, error))?;
        let messages = self.messages.take().and_then(|thread| thread.join().ok());
        let messages = Vec::from(messages.unwrap_or_default()).join("; ");
        if status.success() {
            return Ok(messages);
        }
        let is_disk_full = messages.contains("No space left on device");
        Err(FfmpegError::Failed {
            work: std::mem::take(&mut self.work),
            program: self.program,
            status,
            messages,
            source: is_disk_full.then(|| ErrorKind::StorageFull.into()),
        })
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// A command line of ffmpeg or ffprobe.
#[derive(Clone, Debug, Default)]
pub(super) struct CommandLine(Vec<OsString>);

impl CommandLine {
    /// With options that apply to every run of ffmpeg.
    pub(super) fn ffmpeg() -> Self {
        Self::default().words("-v error -nostdin -y")
    }

    /// Adds words that are separated by spaces.
    pub(super) fn words(mut self, words: &str) -> Self {
        self.0.extend(words.split_whitespace().map(OsString::from));
        self
    }

    /// Adds one word.
    pub(super) fn word(mut self, word: impl Into<OsString>) -> Self {
        self.0.push(word.into());
        self
    }

    /// Adds a file, which no character of its name makes an option or a protocol.
    pub(super) fn file(self, path: &Path) -> Self {
        let mut word = OsString::from("file:");
        word.push(path);
        self.word(word)
    }
}

impl IntoIterator for CommandLine {
    type Item = OsString;
    type IntoIter = std::vec::IntoIter<OsString>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
