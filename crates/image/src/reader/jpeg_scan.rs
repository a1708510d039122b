//! Whether the scans of a JPEG file hold exactly the blocks that its headers announce.
//!
//! A decoder may silently fill a corrupt scan with grey or shifted blocks, since JPEG has no checksums.
//! A corrupt scan nearly always shows in its length: invalid codes, or data that end before the last
//! block or continue after it. So the codes are parsed here, without computing samples, before the
//! image is decoded. A change that leaves codes of the same number of blocks and bytes is not detected.
//!
//! Source: ITU-T T.81, annexes A.2 (order of blocks), B.2 (segments), C.2 (Huffman tables), F.2.2
//! (sequential scans), G.1.2 and G.2 (progressive scans).

use super::jpeg_end::{END_OF_IMAGE, RESTART, next_marker, stands_alone};
use crate::deadline::Deadline;

const START_OF_SCAN: u8 = 0xda;

/// Each scan may take the time of decoding the whole image; writers make about ten.
const MAX_SCANS: usize = 100;

/// Writers define at most eight tables for a scan.
const MAX_TABLES: usize = 8 * MAX_SCANS;

/// For the next 16 bits: the length of the code at their start in the upper byte, 0 if there is none,
/// and its value in the lower byte.
type HuffmanTable = Box<[u16]>;

struct Component {
    id: u8,
    /// Blocks of an MCU, along x and y.
    blocks_x: usize,
    blocks_y: usize,
    /// For each block of whole MCUs, row by row, a bit for each coefficient that is not zero so far.
    /// For progressive files only.
    nonzero: Vec<u64>,
    /// For each coefficient, the lowest bit that a scan contained; [`NO_SCAN`] if none did.
    lowest_bits: [u8; 64],
}

const NO_SCAN: u8 = u8::MAX;

impl Component {
    fn has_dc(&self) -> bool {
        self.lowest_bits[0] != NO_SCAN
    }
}

struct Frame {
    progressive: bool,
    width_px: usize,
    height_px: usize,
    /// Most blocks of a component in an MCU, along x and y.
    most_x: usize,
    most_y: usize,
    components: Vec<Component>,
}

/// The damage of a scan in the current MCU.
enum Fault {
    /// The data end within the MCU.
    Ends,
    /// Bits that are not a code, or a coefficient beyond the last one.
    Invalid,
}

/// The bits of the data between two markers.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    buffer: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    fn of(data: &'a [u8]) -> Self {
        Self {
            data,
            at: 0,
            buffer: 0,
            count: 0,
        }
    }

    fn fill(&mut self) {
        while self.count <= 48 && self.at < self.data.len() {
            let byte = self.data[self.at];
            self.at += 1;
            if byte == 0xff {
                // Fill bytes, and the zero after a data byte 0xff.
                while self.data.get(self.at) == Some(&0xff) {
                    self.at += 1;
                }
                self.at += 1;
            }
            self.buffer = self.buffer << 8 | u64::from(byte);
            self.count += 8;
        }
    }

    /// The next `count` bits, 16 at most.
    fn take(&mut self, count: u32) -> Result<usize, Fault> {
        if self.count < count {
            self.fill();
        }
        self.count = self.count.checked_sub(count).ok_or(Fault::Ends)?;
        Ok((self.buffer >> self.count) as usize & ((1 << count) - 1))
    }

    fn code(&mut self, table: &HuffmanTable) -> Result<u8, Fault> {
        if self.count < 16 {
            self.fill();
        }
        let next = if self.count >= 16 {
            self.buffer >> (self.count - 16)
        } else {
            self.buffer << (16 - self.count)
        };
        let [length, value] = table[next as usize & 0xffff].to_be_bytes();
        match self.count.checked_sub(u32::from(length)) {
            None => Err(Fault::Ends),
            Some(_) if length == 0 && self.count < 16 => Err(Fault::Ends),
            Some(_) if length == 0 => Err(Fault::Invalid),
            Some(count) => {
                self.count = count;
                Ok(value)
            }
        }
    }

    /// A code and the bits of its difference.
    fn dc(&mut self, table: &HuffmanTable) -> Result<(), Fault> {
        match self.code(table)? {
            length @ 0..=16 => self.take(u32::from(length)).map(drop),
            _ => Err(Fault::Invalid),
        }
    }

    /// The number of whole bytes left, without zeros, which some writers append.
    fn bytes_left(&self) -> usize {
        let read_ahead = (self.count / 8) as usize;
        let buffered = self.buffer & ((1 << (8 * read_ahead)) - 1);
        let rest = self.data.get(self.at..).unwrap_or_default();
        if buffered == 0 && rest.iter().all(|&byte| byte == 0) {
            return 0;
        }
        read_ahead + rest.len()
    }

    /// The number of bytes of the data up to the last whole byte that is left.
    fn bytes_taken(&self) -> usize {
        let mut at = self.at.min(self.data.len());
        for _ in 0..self.count / 8 {
            // A data byte 0xff has a zero behind it.
            at -= match self.data[..at] {
                [.., 0xff, 0] => 2,
                _ => 1,
            };
        }
        at
    }
}

/// The tables of a component in a scan; `None` if the scan has no such codes.
#[derive(Clone, Copy)]
struct Tables<'a> {
    dc: Option<&'a HuffmanTable>,
    ac: Option<&'a HuffmanTable>,
}

/// The part of its blocks that a scan codes, and the state from block to block.
struct Scan {
    progressive: bool,
    /// First and last coefficient, by zigzag index.
    band: (usize, usize),
    /// Whether an earlier scan contained the upper bits of the coefficients.
    refines: bool,
    /// The number of following blocks without further coefficients in the band.
    empty_blocks: usize,
}

impl Scan {
    /// Parses a block.
    fn block(
        &mut self,
        bits: &mut Bits<'_>,
        tables: Tables<'_>,
        nonzero: &mut u64,
    ) -> Result<(), Fault> {
        match (self.band.0, tables.dc) {
            (0, Some(dc)) => bits.dc(dc)?,
            (0, None) => drop(bits.take(1)?),
            _ => {}
        }
        match tables.ac {
            None => Ok(()),
            Some(ac) if !self.progressive => sequential_ac(bits, ac),
            Some(ac) if self.refines => self.refined_ac(bits, ac, nonzero),
            Some(ac) => self.first_ac(bits, ac, nonzero),
        }
    }

    fn first_ac(
        &mut self,
        bits: &mut Bits<'_>,
        ac: &HuffmanTable,
        nonzero: &mut u64,
    ) -> Result<(), Fault> {
        if self.empty_blocks > 0 {
            self.empty_blocks -= 1;
            return Ok(());
        }
        let (mut at, last) = self.band;
        while at <= last {
            match split(bits.code(ac)?) {
                (15, 0) => at += 16,
                (run, 0) => {
                    self.empty_blocks = (1 << run) - 1 + bits.take(run as u32)?;
                    break;
                }
                (run, size) => {
                    at += run;
                    if at > last {
                        return Err(Fault::Invalid);
                    }
                    bits.take(size)?;
                    *nonzero |= 1 << at;
                    at += 1;
                }
            }
        }
        Ok(())
    }

    fn refined_ac(
        &mut self,
        bits: &mut Bits<'_>,
        ac: &HuffmanTable,
        nonzero: &mut u64,
    ) -> Result<(), Fault> {
        let (mut at, last) = self.band;
        while self.empty_blocks == 0 && at <= last {
            let (mut run, size) = split(bits.code(ac)?);
            match (run, size) {
                (15, 0) => {}
                (_, 0) => {
                    self.empty_blocks = (1 << run) + bits.take(run as u32)?;
                    break;
                }
                (_, 1) => drop(bits.take(1)?),
                _ => return Err(Fault::Invalid),
            }
            // Coefficients that are not zero have a bit each and do not count.
            while at <= last {
                if *nonzero >> at & 1 == 1 {
                    bits.take(1)?;
                } else if run == 0 {
                    break;
                } else {
                    run -= 1;
                }
                at += 1;
            }
            if size == 1 {
                if at > last {
                    return Err(Fault::Invalid);
                }
                *nonzero |= 1 << at;
            }
            at += 1;
        }
        if self.empty_blocks > 0 {
            self.empty_blocks -= 1;
            for _ in (at..=last).filter(|at| *nonzero >> at & 1 == 1) {
                bits.take(1)?;
            }
        }
        Ok(())
    }
}

/// The upper and the lower half: zeros before a coefficient, and its bits.
fn split(value: u8) -> (usize, u32) {
    (usize::from(value >> 4), u32::from(value & 15))
}

fn sequential_ac(bits: &mut Bits<'_>, ac: &HuffmanTable) -> Result<(), Fault> {
    let mut at = 1;
    while at < 64 {
        let (run, size) = split(bits.code(ac)?);
        match (run, size) {
            (15, 0) => at += 16,
            (_, 0) => break,
            _ => {
                at += run;
                if at > 63 {
                    return Err(Fault::Invalid);
                }
                bits.take(size)?;
                at += 1;
            }
        }
    }
    Ok(())
}

/// Checks that the data of each scan are codes of exactly its blocks; the error names the scan and the
/// damage. Other damage (an unknown kind of frame, an undefined table) is left to the decoder. After the
/// deadline it is an error.
pub(crate) fn check_scans(jpeg: &[u8], deadline: &Deadline) -> Result<(), String> {
    let mut file = File {
        deadline: deadline.clone(),
        ..File::default()
    };
    walk_scans(jpeg, &mut file).map(drop)
}

/// The end of the data of an image without an end-of-image marker, if the scans contain every bit of
/// every coefficient; whatever follows is not part of the image.
pub(crate) fn end_of_unmarked(jpeg: &[u8]) -> Option<usize> {
    let mut file = File {
        is_unmarked: true,
        ..File::default()
    };
    let end = walk_scans(jpeg, &mut file).ok()??;
    file.is_complete().then_some(end)
}

/// Walks through the scans as [`check_scans`] does. Returns the end of the last one, or `None` if what
/// follows is left to the decoder.
fn walk_scans(jpeg: &[u8], file: &mut File) -> Result<Option<usize>, String> {
    let mut at = 0;
    let mut scans = 0;
    let mut scans_end = None;
    while let Some(marker_at) = next_marker(jpeg, at) {
        at = marker_at + 1;
        let marker = jpeg[marker_at];
        if marker == END_OF_IMAGE {
            break;
        }
        if stands_alone(marker) {
            continue;
        }
        let Some(content) = segment(jpeg, at) else {
            return Ok(None);
        };
        at += 2 + content.len();
        match marker {
            0xc0..=0xc2 if file.frame.is_some() => {
                return Err("it has more than one frame".to_owned());
            }
            // Huffman-coded DCT: baseline, extended, progressive.
            0xc0..=0xc2 => file.frame = frame(content, marker == 0xc2),
            0xc4 => {
                if file.define_tables(content).is_none() {
                    return Ok(None);
                }
                if file.table_count > MAX_TABLES {
                    return Err(format!("it has more than {MAX_TABLES} code tables"));
                }
            }
            // Other codes than these, and a height that comes later.
            0xc3 | 0xc5..=0xcf | 0xdc => return Ok(None),
            0xdd => {
                file.restart_interval = content
                    .first_chunk()
                    .map_or(0, |&b| u16::from_be_bytes(b).into())
            }
            START_OF_SCAN if scans == MAX_SCANS => {
                return Err(format!("it has more than {MAX_SCANS} scans"));
            }
            START_OF_SCAN => {
                scans += 1;
                match file.scan(content, jpeg, at) {
                    Some(checked) => at = checked.map_err(|what| format!("scan {scans} {what}"))?,
                    None => return Ok(None),
                }
                scans_end = Some(at);
                if file.is_unmarked && file.is_complete() {
                    break;
                }
            }
            _ => {}
        }
    }
    let components = file.frame.iter().flat_map(|frame| &frame.components);
    match components.filter(|component| !component.has_dc()).count() {
        0 => Ok(scans_end),
        missing => Err(format!(
            "{missing} of its colour components are in none of its {scans} scans"
        )),
    }
}

/// The content of the segment whose length is at `at`.
fn segment(jpeg: &[u8], at: usize) -> Option<&[u8]> {
    let &length = jpeg.get(at..)?.first_chunk()?;
    jpeg.get(at + 2..at + usize::from(u16::from_be_bytes(length)))
}

fn frame(content: &[u8], progressive: bool) -> Option<Frame> {
    let (&[precision, y1, y0, x1, x0, count], rest) = content.split_first_chunk()?;
    let (height_px, width_px) = (u16::from_be_bytes([y1, y0]), u16::from_be_bytes([x1, x0]));
    let components: Vec<_> = rest
        .as_chunks::<3>()
        .0
        .iter()
        .take(count.into())
        .map(|&[id, sampling, _]| Component {
            id,
            blocks_x: usize::from(sampling >> 4),
            blocks_y: usize::from(sampling & 15),
            nonzero: Vec::new(),
            lowest_bits: [NO_SCAN; 64],
        })
        .collect();
    let sound = |c: &Component| (1..=4).contains(&c.blocks_x) && (1..=4).contains(&c.blocks_y);
    if precision != 8
        || width_px == 0
        || height_px == 0
        || components.len() != usize::from(count)
        || !components.iter().all(sound)
    {
        return None;
    }
    let mut frame = Frame {
        progressive,
        width_px: width_px.into(),
        height_px: height_px.into(),
        most_x: components.iter().map(|c| c.blocks_x).max()?,
        most_y: components.iter().map(|c| c.blocks_y).max()?,
        components,
    };
    if progressive {
        let (mcus_x, mcus_y) = frame.mcus();
        for component in &mut frame.components {
            let blocks = mcus_x * component.blocks_x * mcus_y * component.blocks_y;
            component.nonzero = vec![0; blocks];
        }
    }
    Some(frame)
}

impl Frame {
    /// MCUs of a scan of several components, along x and y.
    fn mcus(&self) -> (usize, usize) {
        (
            self.width_px.div_ceil(8 * self.most_x),
            self.height_px.div_ceil(8 * self.most_y),
        )
    }

    /// Blocks of a component that touch the image, along x and y.
    fn blocks(&self, component: &Component) -> (usize, usize) {
        let along = |px: usize, own: usize, most| (px * own).div_ceil(most).div_ceil(8);
        (
            along(self.width_px, component.blocks_x, self.most_x),
            along(self.height_px, component.blocks_y, self.most_y),
        )
    }

    /// Parses an MCU of a scan of these components; a single component has one block in it.
    fn mcu(
        &mut self,
        scan: &mut Scan,
        bits: &mut Bits<'_>,
        members: &[(usize, Tables<'_>)],
        mcu: usize,
        mcus_x: usize,
    ) -> Result<(), Fault> {
        let (whole_mcus_x, _) = self.mcus();
        let (x, y) = (mcu % mcus_x, mcu / mcus_x);
        for &(index, tables) in members {
            let component = &mut self.components[index];
            let stride = whole_mcus_x * component.blocks_x;
            let (across, down) = if members.len() == 1 {
                (1, 1)
            } else {
                (component.blocks_x, component.blocks_y)
            };
            for block_y in y * down..(y + 1) * down {
                for block_x in x * across..(x + 1) * across {
                    let kept = component.nonzero.get_mut(block_y * stride + block_x);
                    scan.block(bits, tables, kept.unwrap_or(&mut 0))?;
                }
            }
        }
        Ok(())
    }
}

/// The definitions of the segments so far.
#[derive(Default)]
struct File {
    frame: Option<Frame>,
    dc: [Option<HuffmanTable>; 4],
    ac: [Option<HuffmanTable>; 4],
    /// MCUs from one restart to the next; 0 for none.
    restart_interval: usize,
    table_count: usize,
    /// Whether the file has no end-of-image marker, so that the data of a scan may end with the file or
    /// before other data.
    is_unmarked: bool,
    deadline: Deadline,
}

impl File {
    /// Whether the scans contained every bit of every coefficient.
    fn is_complete(&self) -> bool {
        let is_complete = |frame: &Frame| {
            let mut components = frame.components.iter();
            components.all(|component| component.lowest_bits == [0; 64])
        };
        self.frame.as_ref().is_some_and(is_complete)
    }

    fn define_tables(&mut self, mut content: &[u8]) -> Option<()> {
        while let Some((&[target], rest)) = content.split_first_chunk() {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let (values, rest) =
                rest.split_at_checked(counts.iter().map(|&n| usize::from(n)).sum())?;
            content = rest;
            let tables = if target >> 4 == 0 {
                &mut self.dc
            } else {
                &mut self.ac
            };
            *tables.get_mut(usize::from(target & 15))? = Some(huffman_table(counts, values)?);
            self.table_count += 1;
            if self.table_count > MAX_TABLES {
                break;
            }
        }
        Some(())
    }

    /// Parses the scan of the header `content` whose data begin at `at`. Returns the end of the data, or
    /// `None` if the header is invalid.
    fn scan(&mut self, content: &[u8], jpeg: &[u8], at: usize) -> Option<Result<usize, String>> {
        let frame = self.frame.as_mut()?;
        let (&[count], rest) = content.split_first_chunk()?;
        let (named, rest) = rest.split_at_checked(2 * usize::from(count))?;
        let &[first, last, bits] = rest.first_chunk()?;
        let mut scan = Scan {
            progressive: frame.progressive,
            band: (usize::from(first), usize::from(last)),
            refines: bits >> 4 != 0,
            empty_blocks: 0,
        };
        if !scan.progressive {
            scan.band = (0, 63);
        }
        let (first, last) = scan.band;
        if last > 63 || first > last || scan.progressive && (first == 0) != (last == 0) {
            return None;
        }
        let mut members = Vec::new();
        for &[id, tables] in named.as_chunks::<2>().0 {
            let index = frame.components.iter().position(|c| c.id == id)?;
            let dc = || self.dc.get(usize::from(tables >> 4))?.as_ref();
            let ac = || self.ac.get(usize::from(tables & 15))?.as_ref();
            let coded_dc = first == 0 && !(scan.progressive && scan.refines);
            let tables = Tables {
                dc: if coded_dc { Some(dc()?) } else { None },
                ac: if last > 0 { Some(ac()?) } else { None },
            };
            let lowest_bit = if scan.progressive { bits & 15 } else { 0 };
            frame.components[index].lowest_bits[first..=last].fill(lowest_bit);
            members.push((index, tables));
        }
        // The blocks of one component alone are coded row by row, as far as they touch the image.
        let (mcus_x, mcus_y) = match members[..] {
            [] => return None,
            [(index, _)] => frame.blocks(&frame.components[index]),
            _ if first > 0 => return None,
            _ => frame.mcus(),
        };
        let mcus = mcus_x * mcus_y;
        let interval = match self.restart_interval {
            0 => mcus,
            interval => interval,
        };
        let (mut at, mut mcu, mut restart) = (at, 0, RESTART);
        loop {
            let marker_at = match next_marker(jpeg, at) {
                None if self.is_unmarked => jpeg.len(),
                marker_at => marker_at?,
            };
            let before_fill = jpeg[at..marker_at].iter().rposition(|&byte| byte != 0xff);
            let end = before_fill.map_or(at, |last| at + last + 1);
            let mut bits = Bits::of(&jpeg[at..end]);
            scan.empty_blocks = 0;
            for _ in 0..interval.min(mcus - mcu) {
                if mcu % mcus_x == 0 && self.deadline.is_over() {
                    return Some(Err("is not parsed: the time is over".to_owned()));
                }
                if let Err(fault) = frame.mcu(&mut scan, &mut bits, &members, mcu, mcus_x) {
                    let what = match fault {
                        Fault::Ends => "ends in",
                        Fault::Invalid => "has bits that are no code in",
                    };
                    return Some(Err(format!("{what} MCU {mcu} of {mcus}")));
                }
                mcu += 1;
            }
            let left = bits.bytes_left();
            if self.is_unmarked && mcu == mcus {
                return Some(Ok(at + bits.bytes_taken()));
            }
            if left > 0 {
                let what = format!("has {left} bytes too many after MCU {mcu} of {mcus}");
                return Some(Err(what));
            }
            if mcu == mcus {
                return Some(Ok(end));
            }
            let found = jpeg.get(marker_at).copied().unwrap_or(0);
            if found != restart {
                return Some(Err(format!(
                    "has marker 0x{found:02x} after MCU {mcu} of {mcus}, expected 0x{restart:02x}"
                )));
            }
            restart = RESTART + (restart + 1) % 8;
            at = marker_at + 1;
        }
    }
}

/// A code table from the number of codes of each length and their values in order.
fn huffman_table(counts: &[u8; 16], values: &[u8]) -> Option<HuffmanTable> {
    let mut table = vec![0; 1 << 16].into_boxed_slice();
    let mut from = 0;
    let lengths = (1..=16)
        .zip(counts)
        .flat_map(|(length, &n)| std::iter::repeat_n(length, n.into()));
    for (length, &value) in lengths.zip(values) {
        let next = from + (1 << (16 - length));
        table
            .get_mut(from..next)?
            .fill(u16::from_be_bytes([length as u8, value]));
        from = next;
    }
    Some(table)
}
