//! Reads the lines of a file, decompressed if needed, on a separate thread and in batches.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail};
use flate2::bufread::MultiGzDecoder;
use tessera_core::Fault;
use tessera_core::desk::clock;
use tessera_core::desk::import::{BATCH_BYTES_MAX, BATCH_LINES_MAX, Numbered};
use tessera_core::plan::import::{self, LINE_MAX};
use tokio::sync::mpsc;

/// Batches that are read ahead, besides the one in progress.
const AHEAD: usize = 2;
/// Bytes read at a time.
const BUFFER: usize = 256 * 1024;
/// The first bytes of a gzip file.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// The byte order mark that some programs put before UTF-8 text.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// An open input file.
pub struct Input {
    bytes: Box<dyn Read + Send>,
    /// The file's name without its directory, which identifies its lines.
    name: String,
    /// Size on the disk in bytes, if known.
    pub size: Option<u64>,
    /// Bytes read so far.
    pub position: Arc<AtomicU64>,
}

impl Input {
    /// Opens a file, or stdin for `-`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(file: &Path) -> anyhow::Result<Self> {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let position = Arc::default();
        if file == Path::new("-") {
            return Ok(Self { bytes: Box::new(io::stdin()), name, size: None, position });
        }
        let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
        let metadata = opened.metadata().with_context(|| format!("cannot read {}", file.display()))?;
        if metadata.is_dir() {
            bail!("{} is a directory, not a file", file.display());
        }
        let size = metadata.is_file().then_some(metadata.len());
        Ok(Self { bytes: Box::new(opened), name, size, position })
    }
}

/// Returns the highest ticket number in a file, or `None` for a pipe, which can be read only once.
///
/// # Errors
/// The file cannot be read.
pub async fn highest_number(file: &Path) -> anyhow::Result<Option<i64>> {
    if !file.is_file() {
        return Ok(None);
    }
    let (path, failed) = (file.to_owned(), || format!("cannot read {}", file.display()));
    let looked = tokio::task::spawn_blocking(move || -> io::Result<Option<i64>> {
        let mut from = unpacked(File::open(path)?)?;
        let (mut line, mut highest) = (Vec::new(), None);
        loop {
            match next_line(&mut from, &mut line) {
                Ok(Found::End) => return Ok(highest),
                Ok(Found::Line) => highest = highest.max(import::number_of(&line, clock::now())),
                Ok(Found::TooLong) => {}
                // The import reads such a file as far as possible, and reports the error then.
                Err(_) => return Ok(highest),
            }
        }
    });
    looked.await?.with_context(failed)
}

/// An input whose lines are being read.
#[derive(Debug)]
pub struct Reading {
    batches: mpsc::Receiver<io::Result<Vec<Numbered>>>,
}

impl Reading {
    /// Starts to read.
    pub fn begin(input: Input) -> Self {
        let (send, batches) = mpsc::channel(AHEAD);
        // It ends when all is read, or when the receiver was dropped.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = read(input, &send) {
                let _ = send.blocking_send(Err(error));
            }
        });
        Self { batches }
    }

    /// Returns the next batch; `None` at the end.
    pub async fn next(&mut self) -> Option<io::Result<Vec<Numbered>>> {
        self.batches.recv().await
    }
}

fn read(input: Input, send: &mpsc::Sender<io::Result<Vec<Numbered>>>) -> io::Result<()> {
    let Input { bytes, name, position, .. } = input;
    read_lines(unpacked(Counting { bytes, position })?, &name, send)
}

/// Decompresses the input if it is compressed, and refuses what is not text in UTF-8.
fn unpacked(bytes: impl Read + Send + 'static) -> io::Result<Box<dyn BufRead + Send>> {
    let mut raw = BufReader::with_capacity(BUFFER, bytes);
    let mut text: Box<dyn BufRead + Send> = match raw.fill_buf()?.starts_with(&GZIP) {
        true => Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(raw))),
        false => Box::new(raw),
    };
    match foreign(text.fill_buf()?) {
        Some(message) => Err(io::Error::new(io::ErrorKind::InvalidData, message)),
        None => Ok(text),
    }
}

/// Names the format of a file that is not JSON Lines in UTF-8, by its first bytes.
fn foreign(head: &[u8]) -> Option<String> {
    let encoding = |name: &str| {
        format!("it is in {name}; convert it to UTF-8 first, for example with `iconv -f {name} -t UTF-8`")
    };
    // JSON begins with an ASCII character, so that zeros beside it tell the width and the order of the bytes.
    let (encodings, others) = (
        [
            (&b"\xff\xfe\0\0"[..], "UTF-32LE"),
            (b"\0\0\xfe\xff", "UTF-32BE"),
            (b"\xff\xfe", "UTF-16LE"),
            (b"\xfe\xff", "UTF-16BE"),
        ],
        [
            (&b"PK\x03\x04"[..], "a ZIP archive"),
            (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
            (b"\xfd7zXZ\0", "compressed with xz"),
            (b"BZh", "compressed with bzip2"),
            (b"SQLite format 3\0", "an SQLite database"),
        ],
    );
    let named = encodings.iter().find(|(start, _)| head.starts_with(start)).map(|(_, name)| encoding(name));
    let by_zeros = || match head.get(..4)? {
        [0, 0, 0, _] => Some(encoding("UTF-32BE")),
        [_, 0, 0, 0] => Some(encoding("UTF-32LE")),
        [0, _, 0, _] => Some(encoding("UTF-16BE")),
        [_, 0, _, 0] => Some(encoding("UTF-16LE")),
        _ => None,
    };
    let other = || {
        let (_, what) = others.iter().find(|(start, _)| head.starts_with(start))?;
        Some(format!("it is {what}; unpack it to JSON Lines in UTF-8, plain or compressed with gzip"))
    };
    named.or_else(by_zeros).or_else(other)
}

fn read_lines(
    mut from: Box<dyn BufRead + Send>,
    name: &str,
    send: &mpsc::Sender<io::Result<Vec<Numbered>>>,
) -> io::Result<()> {
    let (mut batch, mut size) = (Vec::new(), 0);
    let mut line = Vec::new();
    for number in 1.. {
        let found = next_line(&mut from, &mut line);
        let is_last = matches!(found, Ok(Found::End) | Err(_));
        if size > 0 && (is_last || size + line.len() > BATCH_BYTES_MAX || batch.len() >= BATCH_LINES_MAX) {
            size = 0;
            if send.blocking_send(Ok(std::mem::take(&mut batch))).is_err() {
                return Ok(());
            }
        }
        let bytes = if number == 1 { line.strip_prefix(MARK).unwrap_or(&line) } else { &line };
        let read = match found? {
            Found::End => return Ok(()),
            Found::Line if bytes.trim_ascii().is_empty() => continue,
            Found::Line => import::Read::of(name, number, bytes, clock::now()).map(Box::new),
            Found::TooLong => {
                let message = format!("is longer than the limit of {LINE_MAX} bytes");
                Err(vec![Fault::new("line", message)])
            }
        };
        size += line.len();
        batch.push(Numbered { number, read });
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Line,
    /// A line that is skipped; only its first byte was kept in memory.
    TooLong,
    End,
}

/// Reads a line without its terminator.
fn next_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Found> {
    line.clear();
    let most = u64::try_from(LINE_MAX).unwrap_or(u64::MAX).saturating_add(1);
    if from.by_ref().take(most).read_until(b'\n', line)? == 0 {
        return Ok(Found::End);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        return Ok(Found::Line);
    }
    if line.len() <= LINE_MAX {
        return Ok(Found::Line);
    }
    line.truncate(1);
    from.skip_until(b'\n')?;
    Ok(Found::TooLong)
}

/// Counts the bytes that are read.
struct Counting {
    bytes: Box<dyn Read + Send>,
    position: Arc<AtomicU64>,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(buffer)?;
        self.position.fetch_add(u64::try_from(read).unwrap_or_default(), Ordering::Relaxed);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const TICKET: &str = r#"{"queue": "General", "subject": "S", "status": "new", "creator": "a@example.net", "created_at": "2020-01-01T00:00:00Z"}"#;

    async fn batches(bytes: Vec<u8>) -> Vec<Result<Vec<(u64, bool)>, io::ErrorKind>> {
        let bytes = Box::new(io::Cursor::new(bytes));
        let input = Input { bytes, name: "old.jsonl".to_owned(), size: None, position: Arc::default() };
        let mut reading = Reading::begin(input);
        let mut all = Vec::new();
        while let Some(batch) = reading.next().await {
            let line = |line: &Numbered| (line.number, line.read.is_ok());
            all.push(batch.map(|batch| batch.iter().map(line).collect()).map_err(|error| error.kind()));
        }
        all
    }

    #[tokio::test]
    async fn blank_lines_count_but_are_not_tickets_and_the_last_line_needs_no_terminator() {
        let text = format!("\u{feff}{TICKET}\r\n\n  \nno json\n{TICKET}");
        assert_eq!(batches(text.into_bytes()).await, [Ok(vec![(1, true), (4, false), (5, true)])]);
        assert_eq!(batches(Vec::new()).await, []);
    }

    #[tokio::test]
    async fn gzip_is_detected_by_its_first_bytes_and_a_truncated_file_is_an_error_after_its_complete_lines() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        for _ in 0..BATCH_LINES_MAX + 1 {
            writeln!(packed, "{TICKET}").unwrap();
        }
        let packed = packed.finish().unwrap();
        let twice = batches([&packed[..], &packed[..]].concat()).await;
        let sizes: Vec<usize> = twice.iter().map(|batch| batch.as_ref().unwrap().len()).collect();
        assert_eq!(sizes, [1_000, 1_000, 2]);
        for at in [9, packed.len() / 2] {
            let cut = batches(packed[..packed.len() - at].to_vec()).await;
            let (error, whole) = cut.split_last().unwrap();
            assert_eq!(error.as_ref().err(), Some(&io::ErrorKind::UnexpectedEof));
            assert!(whole.last().unwrap().as_ref().is_ok_and(|lines| !lines.is_empty()), "{whole:?}");
        }
        let zeros = batches([&packed[..], &[0; 512]].concat()).await;
        let sizes: Vec<_> = zeros.iter().filter_map(|batch| Some(batch.as_ref().ok()?.len())).collect();
        assert_eq!(sizes, [1_000, 1], "bytes after the end are an error after the complete lines");
        assert!(zeros.last().unwrap().is_err());
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_skipped() {
        let long = "x".repeat(LINE_MAX + 1);
        let text = format!("{TICKET}\n{long}\n{TICKET}\n{long}");
        let lines = batches(text.into_bytes()).await.concat_ok();
        assert_eq!(lines, [(1, true), (2, false), (3, true), (4, false)]);
        let fits = format!("{}{}\n{TICKET}", TICKET, " ".repeat(LINE_MAX - TICKET.len()));
        assert_eq!(batches(fits.into_bytes()).await.concat_ok(), [(1, true), (2, true)]);
    }

    #[tokio::test]
    async fn a_file_in_another_encoding_or_format_is_named() {
        let marked = format!("\u{feff}{TICKET}\r\n");
        let wide =
            |text: &str, order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
        let wider = |text: &str, order: fn(u32) -> [u8; 4]| {
            text.chars().flat_map(|c| order(u32::from(c))).collect::<Vec<u8>>()
        };
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&wide(&marked, u16::to_le_bytes)).unwrap();
        for (bytes, name) in [
            (wide(&marked, u16::to_le_bytes), "UTF-16LE"),
            (wide(&marked, u16::to_be_bytes), "UTF-16BE"),
            (wide(TICKET, u16::to_le_bytes), "UTF-16LE"),
            (wide(TICKET, u16::to_be_bytes), "UTF-16BE"),
            (wide("\r\n{", u16::to_le_bytes), "UTF-16LE"),
            (wider(&marked, u32::to_le_bytes), "UTF-32LE"),
            (wider(&marked, u32::to_be_bytes), "UTF-32BE"),
            (wider(TICKET, u32::to_le_bytes), "UTF-32LE"),
            (packed.finish().unwrap(), "UTF-16LE"),
            (b"PK\x03\x04....".to_vec(), "ZIP"),
            (b"\x28\xb5\x2f\xfd....".to_vec(), "zstd"),
        ] {
            let error = unpacked(io::Cursor::new(bytes)).err().unwrap().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    trait ConcatOk {
        fn concat_ok(self) -> Vec<(u64, bool)>;
    }

    impl ConcatOk for Vec<Result<Vec<(u64, bool)>, io::ErrorKind>> {
        fn concat_ok(self) -> Vec<(u64, bool)> {
            self.into_iter().flat_map(Result::unwrap).collect()
        }
    }
}
