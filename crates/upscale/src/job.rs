//! One image from a reader to a file: checked, planned, upscaled, written.

use std::io::{self, Cursor, Seek, SeekFrom, Write};
use std::iter;
use std::ops::Range;
use std::path::Path;

use wdsr_image::{
    Animation, AnimationWriter, AtomicFile, Band, Colour, Deadline, Depth, Encoding, Format, Frame,
    Metadata, MetadataPolicy, Outline, Reader, RowSample, Writer,
};
use wdsr_model::{Progress, Sample, UpscaleError, Upscaler};

use crate::band::{BandError, BandRequest, BandRows};
use crate::error::{Error, OutOfMemory, Work};
use crate::image_upscaler::{ImageUpscaler, upscale_rows};
use crate::memory::{check_memory, rows_at_a_time};
use crate::range::{Mapping, Survey};
use crate::settings::Settings;
use crate::strength::{Damage, DamageSurvey, Strength};
use crate::wrap::{Halo, HaloRows};
use crate::{Plan, Size};

/// An image that is opened and planned, to be upscaled into a file.
///
/// A PNG or TIFF image without alpha streams into a PNG or TIFF file, if one pass of a network makes
/// the size: some rows at a time are decoded, upscaled and encoded, so that its height needs no memory.
/// Other images, and each frame of an animation, are decoded, upscaled and encoded as a whole. The samples are
/// the same either way. The
/// deadline of the reader's limits is that of the file too.
pub struct Job<'a> {
    reader: Reader,
    upscaler: ImageUpscaler<'a>,
    /// Upscales a damaged image instead.
    for_damaged: Option<ImageUpscaler<'a>>,
    /// Those of further pages.
    networks: Vec<&'a Upscaler>,
    networks_for_damaged: Option<Vec<&'a Upscaler>>,
    settings: Settings,
    /// The only rows of the result that are made.
    band: Option<Band>,
    /// Whether the file of the result is in memory.
    keeps_result: bool,
}

/// What became of an image.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The passes and the sizes.
    pub plan: Plan,
    /// What the file contains and the result lacks, each with the reason: further images, and metadata
    /// that was to be copied.
    pub dropped: Vec<String>,
    /// Number of frames; 1 unless the image is an animation.
    pub frames: usize,
    /// Number of pages, of which the rest of the summary describes the first.
    pub pages: usize,
    /// The rows of the result that were made, if not all.
    pub band: Option<Range<usize>>,
    /// Whether the image streamed.
    pub streamed: bool,
    /// The strength, if the first pass is by a model that has one.
    pub strength: Option<Strength>,
    /// What the networks were chosen by, if there are others for damaged images
    /// ([`Job::for_damaged`]).
    pub choice: Option<Choice>,
}

/// The choice between networks for clean and for damaged images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Whether those for damaged images were chosen.
    pub is_for_damaged: bool,
    /// The damage found.
    pub damage: Damage,
}

impl<'a> Job<'a> {
    /// Plans the passes by which an image gets its size.
    ///
    /// # Errors
    /// Those of [`ImageUpscaler::planned`].
    ///
    /// # Panics
    /// When [`ImageUpscaler::planned`] does.
    pub fn new(
        reader: Reader,
        networks: &[&'a Upscaler],
        settings: Settings,
    ) -> Result<Self, Error> {
        let Outline {
            width_px,
            height_px,
            ..
        } = reader.outline();
        let input = Size {
            width_px,
            height_px,
        };
        let upscaler = ImageUpscaler::planned(reader.name(), input, networks, &settings)?;
        Ok(Self {
            reader,
            upscaler,
            for_damaged: None,
            networks: networks.to_vec(),
            networks_for_damaged: None,
            settings,
            band: None,
            keeps_result: false,
        })
    }

    /// Makes a band of the result only. Its rows are those of the whole result, bit for bit, and its metadata tells its
    /// place; [`wdsr_image::join_bands`] joins bands of the same origin: a line by which image, networks and
    /// settings are recognised.
    ///
    /// # Errors
    /// If the result has no such rows, or the image is not one that streams. That the format of the result does not
    /// is found with the rest before the work.
    pub fn band(mut self, request: BandRequest, origin: &str) -> Result<Self, Error> {
        let height_px = self.plan().target().height_px;
        let rows = request.within(height_px);
        let rows = rows.map_err(|source| self.band_error(source))?;
        self.check_streams_for_band(None)?;
        self.band = Some(Band {
            rows,
            height_px,
            origin: origin.to_owned(),
        });
        Ok(self)
    }

    fn band_error(&self, source: BandError) -> Error {
        let name = self.reader.name().to_owned();
        Error::Band { name, source }
    }

    /// Checks that a band can be made; into a file of `format`, if that is known.
    fn check_streams_for_band(&self, format: Option<Format>) -> Result<(), Error> {
        let pages = self.reader.pages();
        let plans = [Some(&self.upscaler), self.for_damaged.as_ref()];
        let not_one = plans
            .into_iter()
            .flatten()
            .find(|upscaler| upscaler.only_pass().is_none());
        let reason = if pages > 1 {
            format!("it has {pages} pages")
        } else if self.reader.outline().colour.has_alpha() {
            "it has transparency".to_owned()
        } else if !self.reader.streams_rows() {
            format!(
                "a {} image of its kind is read as a whole",
                self.reader.format()
            )
        } else if let Some(upscaler) = not_one {
            format!("its result is made by {}", upscaler.plan())
        } else if let Some(format) = format.filter(|format| *format != Format::Tiff) {
            format!("its result is {format}")
        } else {
            return Ok(());
        };
        Err(self.band_error(BandError::Whole { reason }))
    }

    /// With other networks for an image whose damage is worth removing
    /// ([`Strength::is_worth_removing`]): it is upscaled as if these had been given to [`new`](Self::new),
    /// at its strength. An image that needs no pass of the first networks gets none.
    ///
    /// # Errors
    /// Those of [`ImageUpscaler::planned`].
    ///
    /// # Panics
    /// When [`ImageUpscaler::planned`] does, or if the sizes of the results differ.
    pub fn for_damaged(mut self, networks: &[&'a Upscaler]) -> Result<Self, Error> {
        self.networks_for_damaged = Some(networks.to_vec());
        let input = self.plan().input();
        if !self.plan().passes().is_empty() {
            let upscaler =
                ImageUpscaler::planned(self.reader.name(), input, networks, &self.settings)?;
            assert_eq!(
                upscaler.plan().target(),
                self.plan().target(),
                "sizes of damaged and clean results"
            );
            self.for_damaged = Some(upscaler);
        }
        Ok(self)
    }

    /// The passes and the sizes, unless the image is damaged.
    pub fn plan(&self) -> &Plan {
        self.upscaler.plan()
    }

    /// The passes and the sizes of a damaged image, if other networks are for these.
    pub fn plan_if_damaged(&self) -> Option<&Plan> {
        self.for_damaged.as_ref().map(ImageUpscaler::plan)
    }

    /// Upscales the image into a file that is complete, but not published under its name.
    /// `progress` gets (work done, work in all) and may stop the work.
    ///
    /// # Errors
    /// If `format` cannot hold the result or memory does not suffice, which is found before any work; if
    /// the image cannot be read or upscaled; if the file cannot be written. No part of it is left.
    pub fn into_file(
        self,
        path: &Path,
        format: Format,
        progress: &Progress<'_>,
    ) -> Result<(AtomicFile, Summary), Error> {
        let failed = |source| wdsr_image::Error::Write {
            path: path.to_owned(),
            source,
        };
        let create = |_: &Summary| AtomicFile::create(path).map_err(failed);
        let (file, summary) = self.run(create, path, format, progress)?;
        file.synchronise().map_err(failed)?;
        Ok((file, summary))
    }

    /// Upscales the image into the bytes of a file, which count as memory. Errors name it by `name`.
    ///
    /// # Errors
    /// Those of [`into_file`](Self::into_file).
    pub fn into_bytes(
        mut self,
        name: &Path,
        format: Format,
        progress: &Progress<'_>,
    ) -> Result<(Vec<u8>, Summary), Error> {
        let create = |_: &Summary| Ok(Cursor::new(Vec::new()));
        self.keeps_result = true;
        let (file, summary) = self.run(create, name, format, progress)?;
        Ok((file.into_inner(), summary))
    }

    /// Upscales the image into a file that is sent while it is made: `start` gets the summary and returns the
    /// destination, which is written from the first byte to the last. Errors name the file by `name`.
    ///
    /// # Errors
    /// Those of [`into_file`](Self::into_file). What was written until then is no file.
    ///
    /// # Panics
    /// If the format is not written so ([`Format::is_sequential`]).
    pub fn into_stream<W: Write + 'static>(
        self,
        name: &Path,
        format: Format,
        start: impl FnOnce(&Summary) -> W,
        progress: &Progress<'_>,
    ) -> Result<Summary, Error> {
        assert!(format.is_sequential(), "a stream of {format}");
        let create = |summary: &Summary| Ok(Sequential(start(summary)));
        let (_, summary) = self.run(create, name, format, progress)?;
        Ok(summary)
    }

    fn run<W: Write + Seek + 'static>(
        self,
        create: impl FnOnce(&Summary) -> Result<W, wdsr_image::Error>,
        output: &Path,
        format: Format,
        progress: &Progress<'_>,
    ) -> Result<(W, Summary), Error> {
        let all_pages = self.reader.pages();
        let pages = if format == Format::Tiff { all_pages } else { 1 };
        if self.band.is_some() {
            self.check_streams_for_band(Some(format))?;
        }
        // What is wrong with a later page is found before the work.
        let mut all_bytes = self.check(format, output)?;
        if pages > 1 {
            let mut next = self.next_page()?;
            while let Some(page) = next {
                page.check(format, output)?;
                page.check_page_memory(format)?;
                all_bytes += page.high().sample_bytes();
                next = page.next_page()?;
            }
        }
        // Of one image, this is checked with the rest.
        let frames = self.reader.animation().map_or(1, |found| found.frames);
        if self.keeps_result && pages.max(frames) > 1 {
            let bytes = grown(u128::from(all_bytes) * frames as u128);
            let work = Work::Upscaling(self.plan().target());
            check_memory(work, bytes, self.settings.max_memory_bytes)
                .map_err(|source| self.memory_error(source))?;
        }
        let mut results = Results {
            create: Some(create),
            file: None,
            output,
            format,
            encoding: self.settings.encoding,
            deadline: self.reader.limits().deadline.clone(),
            all_bytes,
            pages,
            omitted_pages: (pages < all_pages).then(|| {
                let further = all_pages - pages;
                let noun = if further == 1 { "page" } else { "pages" };
                format!(
                    "{further} further {noun}: only the first is upscaled; a tiff result has all"
                )
            }),
        };
        let progress_of = |number: usize| {
            move |done: usize, all: usize| {
                if pages == 1 {
                    return progress(done, all);
                }
                let done = number as f64 + done as f64 / all.max(1) as f64;
                progress((1000.0 * done) as usize, 1000 * pages)
            }
        };
        let next_of = |job: &Self| if pages > 1 { job.next_page() } else { Ok(None) };
        let mut next = next_of(&self)?;
        let mut summary = self.run_page(&mut results, &progress_of(0))?;
        let mut number = 1;
        while let Some(page) = next {
            next = next_of(&page)?;
            let of_page = page.run_page(&mut results, &progress_of(number))?;
            for line in of_page.dropped {
                if !summary.dropped.contains(&line) {
                    summary.dropped.push(line);
                }
            }
            summary.streamed &= of_page.streamed;
            number += 1;
        }
        Ok((results.finish()?, summary))
    }

    /// The job of the next page of the file.
    fn next_page(&self) -> Result<Option<Self>, Error> {
        let Some(reader) = self.reader.next_page()? else {
            return Ok(None);
        };
        let mut job = Self::new(reader, &self.networks, self.settings)?;
        job.keeps_result = self.keeps_result;
        match &self.networks_for_damaged {
            Some(networks) => job.for_damaged(networks),
            None => Ok(job),
        }
        .map(Some)
    }

    /// The result, or the band of it.
    fn high(&self) -> Outline {
        let size = self.plan().target();
        let band = self.band.as_ref().map(|band| band.rows.len());
        Outline {
            width_px: size.width_px,
            height_px: band.unwrap_or(size.height_px),
            ..self.reader.outline()
        }
    }

    /// Checks that the format can hold the result. Returns the bytes of its samples.
    fn check(&self, format: Format, output: &Path) -> Result<u64, Error> {
        let animation = self.reader.animation();
        let frames = animation.map_or(1, |animation| animation.frames);
        let high = self.high();
        let holds = format.check_animation(frames, output);
        let holds = holds.and_then(|()| format.check(&high, output));
        holds.map_err(|source| {
            let name = self.reader.name().to_owned();
            Error::Format { name, source }
        })?;
        Ok(high.sample_bytes())
    }

    fn check_page_memory(&self, format: Format) -> Result<(), Error> {
        match self.rows_at_a_time(format)? {
            Some(_) => Ok(()),
            None => self.check_whole_memory(&self.upscaler),
        }
    }

    /// Upscales the page into the file of the results.
    fn run_page<W: Write + Seek + 'static, C>(
        mut self,
        results: &mut Results<'_, W, C>,
        progress: &Progress<'_>,
    ) -> Result<Summary, Error>
    where
        C: FnOnce(&Summary) -> Result<W, wdsr_image::Error>,
    {
        let format = results.format;
        let (low, high) = (self.reader.outline(), self.high());
        let size = self.plan().target();
        let animation = self.reader.animation();
        let frame_count = animation.map_or(1, |animation| animation.frames);
        let band = self.band.as_ref().map(|band| band.rows.clone());
        let policy = self.settings.metadata;
        let (mut metadata, mut dropped) =
            copied(self.reader.metadata(), policy, low.colour, format);
        metadata.scale(
            (low.width_px, low.height_px),
            (size.width_px, size.height_px),
        );
        dropped.append(&mut metadata.dropped);
        if let Some(band) = metadata.band.take() {
            let Range { start, end } = band.rows;
            dropped.push(format!(
                "place in an image of {} rows: the result of rows {start}:{end} is an image of its own",
                band.height_px
            ));
        }
        if let Some(band) = &self.band {
            metadata.cut(band.clone());
        }
        if format == Format::Gif {
            let few =
                "colours beyond 256 in an image and partial transparency: gif cannot hold them";
            dropped.push(few.to_owned());
        }
        // Further images of the file matter more than metadata.
        dropped.splice(..0, self.reader.omitted().iter().cloned());
        dropped.splice(..0, results.omitted_pages.clone());
        let mut found = None;
        let mut choice = None;
        if self.reads_damage() && self.streams_rows(format) {
            // Too little memory is found before the rows are read.
            self.rows_at_a_time(format)?;
            let damage = match low.depth {
                Depth::U8 => self.survey_damage::<u8>(progress),
                Depth::U16 => self.survey_damage::<u16>(progress),
                Depth::F32 => self.survey_damage::<f32>(progress),
            }?;
            choice = choose(&mut self.upscaler, self.for_damaged.take(), &damage);
            found = Some(damage);
        }
        let mut rows_px = self.rows_at_a_time(format)?;
        let mut mapping = Mapping::IDENTITY;
        if rows_px.is_some() && Survey::is_needed(low.depth, self.no_data()) {
            let survey = match low.depth {
                Depth::U8 => self.survey::<u8>(progress),
                Depth::U16 => self.survey::<u16>(progress),
                Depth::F32 => self.survey::<f32>(progress),
            }?;
            let has_missing = survey.has_missing();
            mapping = survey.mapping(low.depth);
            // Filling and interpolation take the whole image.
            rows_px = rows_px.filter(|_| !has_missing && !mapping.clips);
        }
        if self.band.is_some() && rows_px.is_none() {
            let reason = "values without data or beyond the usual range take all of it".to_owned();
            return Err(self.band_error(BandError::Whole { reason }));
        }
        let given = self.settings.strength.map(Strength::given);
        let mut summary = Summary {
            plan: self.plan().clone(),
            dropped,
            frames: frame_count,
            pages: results.pages,
            band,
            streamed: rows_px.is_some(),
            strength: None,
            choice,
        };
        if let Some(rows_px) = rows_px {
            let (upscaler, strength) = at_strength(self.upscaler, given.or(found));
            self.upscaler = upscaler;
            summary.strength = strength;
            let mut writer = results.writer(&high, &metadata, &summary)?;
            match low.depth {
                Depth::U8 => self.stream::<u8, _>(rows_px, mapping, &mut writer, progress),
                Depth::U16 => self.stream::<u16, _>(rows_px, mapping, &mut writer, progress),
                Depth::F32 => self.stream::<f32, _>(rows_px, mapping, &mut writer, progress),
            }?;
            results.file = Some(ResultFile::Page(Box::new(writer)));
        } else {
            self.check_whole_memory(&self.upscaler)?;
            let for_damaged = self.for_damaged.as_ref();
            let damaged_fits = for_damaged.map_or(Ok(()), |other| self.check_whole_memory(other));
            let reads_damage = self.reads_damage() && found.is_none();
            let name = self.reader.name().to_owned();
            let jpeg_table_scale = self.reader.jpeg_table_scale();
            let mut frames: Box<dyn Iterator<Item = _>> = match animation {
                Some(_) => Box::new(self.reader.into_frames()?),
                None => Box::new(iter::once(self.reader.read_all().map(Frame::from))),
            };
            let Some(first) = frames.next().transpose()? else {
                unreachable!("{}: a file without an image", name.display());
            };
            let image = &first.image;
            let mut upscaler = self.upscaler;
            // Of an animation the first frame decides.
            if reads_damage {
                let damage = Strength::of_samples(
                    image.samples.borrowed(),
                    image.width_px,
                    image.colour.channels(),
                    jpeg_table_scale,
                );
                summary.choice = choose(&mut upscaler, self.for_damaged, &damage);
                if summary.choice.is_some_and(|choice| choice.is_for_damaged) {
                    damaged_fits?;
                }
                found = Some(damage);
            }
            let (upscaler, strength) = at_strength(upscaler, given.or(found));
            summary.plan = upscaler.plan().clone();
            summary.strength = strength;
            let failed = |source| {
                let name = name.clone();
                Error::Network { name, source }
            };
            if let Some(animation) = animation {
                let mut writer = results.animation_writer(&high, &metadata, animation, &summary)?;
                for (number, frame) in iter::once(Ok(first)).chain(frames).enumerate() {
                    let Frame { image, delay } = frame?;
                    let progress = |done: usize, all: usize| {
                        let done = number as f64 + done as f64 / all.max(1) as f64;
                        progress((1000.0 * done) as usize, 1000 * animation.frames)
                    };
                    let image = upscaler.upscale_with_progress(image, &progress);
                    let image = image.map_err(failed)?;
                    writer.write_frame(&Frame { image, delay })?;
                }
                results.file = Some(ResultFile::Whole(writer.finish()?));
            } else {
                let large = upscaler.upscale_with_progress(first.image, progress);
                let large = large.map_err(failed)?;
                let mut writer = results.writer(&high, &metadata, &summary)?;
                results.file = Some(if results.pages > 1 {
                    writer.write_page(large.samples.borrowed())?;
                    ResultFile::Page(Box::new(writer))
                } else {
                    ResultFile::Whole(writer.write_all(large.samples.borrowed())?)
                });
            }
        }
        Ok(summary)
    }

    /// Whether the damage of the image decides how it is upscaled.
    fn reads_damage(&self) -> bool {
        let reads_strength = self.upscaler.has_strength() && self.settings.strength.is_none();
        self.for_damaged.is_some() || reads_strength
    }

    /// Whether the image streams if one pass makes the result.
    fn streams_rows(&self, format: Format) -> bool {
        self.settings.streams
            && self.reader.streams_rows()
            && format.streams_rows()
            // Colour under transparency spreads from afar.
            && !self.reader.outline().colour.has_alpha()
    }

    /// How many rows to read at a time if the image streams; `None` if it does not.
    fn rows_at_a_time(&self, format: Format) -> Result<Option<usize>, Error> {
        let streams = self.streams_rows(format);
        match self.upscaler.only_pass().filter(|_| streams) {
            Some(network) => {
                let halo = self.settings.wrap.halo(network);
                if halo.y_px > self.reader.outline().height_px {
                    return Ok(None);
                }
                let max_bytes = self.settings.max_memory_bytes;
                let result_bytes = if self.keeps_result {
                    let bytes = grown(u128::from(self.high().sample_bytes()));
                    u64::try_from(bytes).unwrap_or(u64::MAX)
                } else {
                    0
                };
                let rows_px = rows_at_a_time(&self.reader, network, halo, max_bytes, result_bytes);
                rows_px
                    .map(Some)
                    .map_err(|source| self.memory_error(source))
            }
            None => Ok(None),
        }
    }

    fn no_data(&self) -> Option<f64> {
        self.reader.metadata().geo.no_data()
    }

    /// Reads the rows to find the range of the values, and starts again.
    fn survey<T: Sample + RowSample>(&mut self, progress: &Progress<'_>) -> Result<Survey, Error> {
        let low = self.reader.outline();
        let count = low.row_len() * low.height_px;
        let mut survey = Survey::new(count, low.depth, self.no_data());
        self.for_each_row(progress, |row: &[T]| survey.add(row))?;
        Ok(survey)
    }

    /// Reads all rows, and starts again.
    fn for_each_row<T: Sample + RowSample>(
        &mut self,
        progress: &Progress<'_>,
        mut visit: impl FnMut(&[T]),
    ) -> Result<(), Error> {
        let low = self.reader.outline();
        let mut row = vec![T::default(); low.row_len()];
        for _ in 0..low.height_px {
            self.reader.read_rows(&mut row)?;
            visit(&row);
            if progress(0, 1).is_break() {
                let name = self.reader.name().to_owned();
                let source = UpscaleError::Stopped;
                return Err(Error::Network { name, source });
            }
        }
        self.reader.restart()?;
        Ok(())
    }

    /// Reads the rows to find the damage of the image, and starts again.
    fn survey_damage<T: Sample + RowSample>(
        &mut self,
        progress: &Progress<'_>,
    ) -> Result<Strength, Error> {
        let low = self.reader.outline();
        let mut survey = DamageSurvey::new(low.width_px, low.colour.channels());
        self.for_each_row(progress, |row: &[T]| survey.add_row(row))?;
        Ok(survey.strength(self.reader.jpeg_table_scale()))
    }

    fn stream<T: Sample + RowSample, W: Write + Seek + 'static>(
        &mut self,
        rows_px: usize,
        mapping: Mapping,
        writer: &mut Writer<W>,
        progress: &Progress<'_>,
    ) -> Result<(), Error> {
        let halo = match self.upscaler.only_pass() {
            Some(network) => self.settings.wrap.halo(network),
            None => unreachable!("rows stream through one pass, not {:?}", self.plan()),
        };
        let mut halo_rows = self.halo_rows(halo, progress)?;
        let Some(network) = self.upscaler.only_pass() else {
            unreachable!("one pass, as above");
        };
        let low = self.reader.outline();
        let size = self.upscaler.plan().input();
        let (scale, channels) = (network.scale(), low.colour.channels());
        let band = self.band.as_ref().map(|band| band.rows.clone());
        let band = band.unwrap_or(0..low.height_px * scale);
        let (_, reach_px) = network.halo_px();
        let rows = BandRows::new(&band, low.height_px, scale, halo, reach_px);
        let read = Outline {
            width_px: halo.around(size).width_px,
            height_px: rows.read.len(),
            ..low
        };
        let is_whole = halo.is_empty() && rows.made == (0..low.height_px * scale);
        // The part of a row that is not of the halo.
        let columns = halo.x_px * scale * channels..(halo.x_px + low.width_px) * scale * channels;
        let above_px = rows.read.start.saturating_sub(halo.y_px);
        self.reader.skip_rows(above_px)?;
        halo_rows.next = rows.read.start;
        let mut next_row = 0;
        let streamed = upscale_rows::<T, RowError>(
            network,
            &read,
            rows_px,
            |rows| {
                if is_whole {
                    self.reader.read_rows(rows)?;
                } else {
                    for row in rows.chunks_exact_mut(read.row_len()) {
                        halo_rows.read(row, size, |row| self.reader.read_rows(row))?;
                    }
                }
                if !mapping.is_identity() {
                    mapping.map(rows);
                }
                Ok(())
            },
            |high_rows| {
                let mut within = Vec::new();
                let high_rows = if is_whole {
                    high_rows
                } else {
                    for row in high_rows.chunks_exact(read.row_len() * scale) {
                        if rows.made.contains(&next_row) {
                            within.extend_from_slice(&row[columns.clone()]);
                        }
                        next_row += 1;
                    }
                    &within
                };
                if mapping.is_identity() {
                    return Ok(writer.write_rows(high_rows)?);
                }
                let mut high_rows = high_rows.to_vec();
                mapping.map_back(&mut high_rows);
                Ok(writer.write_rows(&high_rows)?)
            },
            progress,
        );
        streamed.map_err(|error| match error {
            RowError::Image(error) => error.into(),
            RowError::Network(source) => {
                let name = self.reader.name().to_owned();
                let source = halo.explained(source, rows.read.start, size, scale);
                Error::Network { name, source }
            }
        })
    }

    /// The rows at the upper and lower edge, as far as the halo reaches. The image is read once for them.
    fn halo_rows<T: Sample + RowSample>(
        &mut self,
        halo: Halo,
        progress: &Progress<'_>,
    ) -> Result<HaloRows<T>, Error> {
        let height_px = self.reader.outline().height_px;
        let mut rows = HaloRows {
            halo,
            first: Vec::new(),
            last: Vec::new(),
            next: 0,
        };
        if halo.y_px > 0 {
            let mut y = 0;
            self.for_each_row(progress, |row: &[T]| {
                if y < halo.y_px {
                    rows.first.extend_from_slice(row);
                }
                if y >= height_px - halo.y_px {
                    rows.last.extend_from_slice(row);
                }
                y += 1;
            })?;
        }
        Ok(rows)
    }

    /// Checks the memory of an image that is decoded, upscaled and encoded as a whole.
    fn check_whole_memory(&self, upscaler: &ImageUpscaler<'_>) -> Result<(), Error> {
        let max_bytes = self.settings.max_memory_bytes;
        let Outline { colour, depth, .. } = self.reader.outline();
        let decoding = u128::from(self.reader.whole_memory_bytes());
        let pixel = (colour.channels() * depth.bytes()) as u128;
        let copying = upscaler.plan().input().pixels() * pixel * 2;
        // The result, its encoder's copy, the file of noise, and its buffer before it grew.
        let encoding = upscaler.plan().target().pixels() * pixel * 5;
        let most = upscaler.memory_bytes(colour, depth);
        let blocks = most.max(copying).max(encoding) + upscaler.working_bytes();
        // Blocks that are freed leave gaps that later ones do not fit.
        let upscaling = blocks + blocks / 4;
        let target = upscaler.plan().target();
        check_memory(Work::Decoding, decoding, max_bytes)
            .and_then(|()| check_memory(Work::Upscaling(target), upscaling, max_bytes))
            .map_err(|source| self.memory_error(source))
    }

    fn memory_error(&self, source: OutOfMemory) -> Error {
        let name = self.reader.name().to_owned();
        Error::Memory { name, source }
    }
}

/// The file that the pages of a result go to.
struct Results<'p, W: Write + Seek + 'static, C> {
    create: Option<C>,
    file: Option<ResultFile<W>>,
    output: &'p Path,
    format: Format,
    encoding: Encoding,
    deadline: Deadline,
    /// Bytes of the samples of all pages.
    all_bytes: u64,
    pages: usize,
    /// What the result lacks if it has only the first page.
    omitted_pages: Option<String>,
}

/// A destination that is not sought.
struct Sequential<W>(W);

impl<W: Write> Write for Sequential<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W> Seek for Sequential<W> {
    fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

enum ResultFile<W: Write + Seek + 'static> {
    /// After the last row of a page.
    Page(Box<Writer<W>>),
    Whole(W),
}

impl<W: Write + Seek + 'static, C> Results<'_, W, C>
where
    C: FnOnce(&Summary) -> Result<W, wdsr_image::Error>,
{
    fn create(&mut self, summary: &Summary) -> Result<W, wdsr_image::Error> {
        match self.create.take() {
            Some(create) => create(summary),
            None => unreachable!("{}: a second file", self.output.display()),
        }
    }

    /// The writer of the next page.
    fn writer(
        &mut self,
        high: &Outline,
        metadata: &Metadata,
        summary: &Summary,
    ) -> Result<Writer<W>, wdsr_image::Error> {
        if let Some(ResultFile::Page(page)) = self.file.take() {
            return page.next_page(high, metadata);
        }
        let file = self.create(summary)?;
        let writer = Writer::with_pages(
            file,
            self.output,
            self.format,
            high,
            metadata,
            self.encoding,
            self.all_bytes,
        )?;
        Ok(writer.deadline(self.deadline.clone()))
    }

    fn animation_writer(
        &mut self,
        high: &Outline,
        metadata: &Metadata,
        animation: Animation,
        summary: &Summary,
    ) -> Result<AnimationWriter<W>, wdsr_image::Error> {
        let file = self.create(summary)?;
        let writer = AnimationWriter::new(
            file,
            self.output,
            self.format,
            high,
            metadata,
            self.encoding,
            animation,
        )?;
        Ok(writer.deadline(self.deadline.clone()))
    }

    fn finish(self) -> Result<W, wdsr_image::Error> {
        match self.file {
            Some(ResultFile::Page(page)) => page.finish(),
            Some(ResultFile::Whole(file)) => Ok(file),
            None => unreachable!("{}: no page", self.output.display()),
        }
    }
}

/// Bytes of a growing buffer for a file of these samples, which noise does not compress, with a copy of half
/// its size while it grows.
fn grown(sample_bytes: u128) -> u128 {
    sample_bytes + sample_bytes / 2
}

/// Replaces the upscaler by that for damaged images, if there is one and the damage is worth removing.
fn choose<'a>(
    upscaler: &mut ImageUpscaler<'a>,
    for_damaged: Option<ImageUpscaler<'a>>,
    found: &Strength,
) -> Option<Choice> {
    let for_damaged = for_damaged?;
    let choice = Choice {
        is_for_damaged: found.is_worth_removing(),
        damage: found.damage,
    };
    if choice.is_for_damaged {
        *upscaler = for_damaged;
    }
    Some(choice)
}

/// The upscaler at a strength, if its model has one.
fn at_strength<'a>(
    upscaler: ImageUpscaler<'a>,
    strength: Option<Strength>,
) -> (ImageUpscaler<'a>, Option<Strength>) {
    match strength.filter(|_| upscaler.has_strength()) {
        Some(strength) => (upscaler.at_strength(strength.value), Some(strength)),
        None => (upscaler, None),
    }
}

/// An error of reading, upscaling or writing rows.
enum RowError {
    Image(wdsr_image::Error),
    Network(UpscaleError),
}

impl From<wdsr_image::Error> for RowError {
    fn from(error: wdsr_image::Error) -> Self {
        Self::Image(error)
    }
}

impl From<UpscaleError> for RowError {
    fn from(error: UpscaleError) -> Self {
        Self::Network(error)
    }
}

/// The metadata that is copied from an image of that colour to a file of `format`, and what is dropped
/// although `policy` keeps it.
fn copied(
    metadata: &Metadata,
    policy: MetadataPolicy,
    colour: Colour,
    format: Format,
) -> (Metadata, Vec<String>) {
    let mut metadata = metadata.clone();
    let unreadable = std::mem::take(&mut metadata.dropped);
    metadata.apply(policy);
    let mut dropped = metadata.lost_in(format, colour);
    dropped.append(&mut metadata.dropped);
    // Of unreadable metadata only the profile is missed where the rest is stripped.
    let is_missed =
        |line: &String| policy != MetadataPolicy::Strip || line.starts_with("ICC profile");
    dropped.extend(unreadable.into_iter().filter(is_missed));
    (metadata, dropped)
}
