//! The fields of TIFF files that place an image on the Earth (GeoTIFF), and those of GDAL.
//!
//! Source: OGC GeoTIFF 1.1 (19-008r4), annex B; GDAL's GTiff driver (tags 42112 and 42113).

use super::exif::Field;
use crate::tiff_file::DOUBLE;

const PIXEL_SCALE: u16 = 33_550;
const TIE_POINTS: u16 = 33_922;
const TRANSFORMATION: u16 = 34_264;
const KEY_DIRECTORY: u16 = 34_735;
const KEY_DOUBLES: u16 = 34_736;
const KEY_TEXTS: u16 = 34_737;
const GDAL_METADATA: u16 = 42_112;
const GDAL_NO_DATA: u16 = 42_113;

/// The tags of [`GeoFields`].
pub(super) const TAGS: [u16; 8] = [
    PIXEL_SCALE,
    TIE_POINTS,
    TRANSFORMATION,
    KEY_DIRECTORY,
    KEY_DOUBLES,
    KEY_TEXTS,
    GDAL_METADATA,
    GDAL_NO_DATA,
];

/// GTRasterTypeGeoKey, and its value for samples at points instead of areas.
const RASTER_TYPE: u16 = 1025;
const PIXEL_IS_POINT: u16 = 2;

/// The georeference of a TIFF file and GDAL's own fields: copied, and adapted to the size of the image by
/// [`Metadata::scale`](super::Metadata::scale).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GeoFields(pub(super) Vec<Field>);

impl GeoFields {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of samples without data.
    pub fn no_data(&self) -> Option<f64> {
        let text = String::from_utf8_lossy(&self.find(GDAL_NO_DATA)?.value).into_owned();
        text.trim_end_matches('\0').trim().parse().ok()
    }

    fn find(&self, tag: u16) -> Option<&Field> {
        self.0.iter().find(|field| field.tag == tag)
    }

    /// Removes all but the value of samples without data; returns whether there was more.
    pub(super) fn remove_position(&mut self) -> bool {
        let before = self.0.len();
        self.0.retain(|field| field.tag == GDAL_NO_DATA);
        self.0.len() < before
    }

    /// Adapts the positions to an image of `factors` times the width and height.
    pub(super) fn scale(&mut self, factors: [f64; 2]) {
        // The middle of a pixel is at a whole number for points, half a pixel on for areas.
        let shift = if self.is_of_points() { 0.5 } else { 0.0 };
        self.edit(|tag, numbers| match tag {
            PIXEL_SCALE => {
                for (number, factor) in numbers.iter_mut().zip(factors) {
                    *number /= factor;
                }
            }
            // Column, row and level of the image, then the place.
            TIE_POINTS => {
                for point in numbers.chunks_exact_mut(6) {
                    for (number, factor) in point.iter_mut().zip(factors) {
                        *number = (*number + shift) * factor - shift;
                    }
                }
            }
            // Rows of a matrix that gets column, row, level and 1.
            TRANSFORMATION => {
                for row in numbers.chunks_exact_mut(4) {
                    for (column, factor) in factors.iter().enumerate() {
                        row[3] += row[column] * (shift / factor - shift);
                        row[column] /= factor;
                    }
                }
            }
            _ => {}
        });
    }

    /// Adapts the positions to an image without the first rows.
    pub(super) fn move_up(&mut self, rows: usize) {
        self.edit(|tag, numbers| match tag {
            TIE_POINTS => {
                for point in numbers.chunks_exact_mut(6) {
                    point[1] -= rows as f64;
                }
            }
            TRANSFORMATION => {
                for row in numbers.chunks_exact_mut(4) {
                    row[3] += row[1] * rows as f64;
                }
            }
            _ => {}
        });
    }

    /// Edits the numbers of each field of floats.
    fn edit(&mut self, edit: impl Fn(u16, &mut [f64])) {
        for field in self.0.iter_mut().filter(|field| field.kind == DOUBLE) {
            let mut numbers: Vec<f64> = field
                .value
                .as_chunks()
                .0
                .iter()
                .map(|bytes| f64::from_ne_bytes(*bytes))
                .collect();
            edit(field.tag, &mut numbers);
            field.value = numbers.into_iter().flat_map(f64::to_ne_bytes).collect();
        }
    }

    fn is_of_points(&self) -> bool {
        let keys = self
            .find(KEY_DIRECTORY)
            .map_or(&[][..], |field| &field.value);
        let numbers: Vec<u16> = keys
            .as_chunks()
            .0
            .iter()
            .map(|bytes| u16::from_ne_bytes(*bytes))
            .collect();
        // A header of four numbers, then for each key its number, place, count and value.
        let mut keys = numbers.as_chunks::<4>().0.iter().skip(1);
        keys.any(|&[key, place, _, value]| {
            key == RASTER_TYPE && place == 0 && value == PIXEL_IS_POINT
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubles(tag: u16, numbers: &[f64]) -> Field {
        let value = numbers.iter().flat_map(|v| v.to_ne_bytes()).collect();
        let kind = DOUBLE;
        Field { tag, kind, value }
    }

    /// The place of column and row by scale and tie point, and by the matrix.
    fn places(geo: &GeoFields, column: f64, row: f64) -> [[f64; 2]; 2] {
        let numbers = |tag| -> Vec<f64> {
            let value = &geo.find(tag).expect("the field").value;
            value
                .as_chunks()
                .0
                .iter()
                .map(|b| f64::from_ne_bytes(*b))
                .collect()
        };
        let (scale, tie, matrix) = (
            numbers(PIXEL_SCALE),
            numbers(TIE_POINTS),
            numbers(TRANSFORMATION),
        );
        let by_scale = [
            tie[3] + (column - tie[0]) * scale[0],
            tie[4] - (row - tie[1]) * scale[1],
        ];
        let by_matrix = [0, 4].map(|i| matrix[i] * column + matrix[i + 1] * row + matrix[i + 3]);
        [by_scale, by_matrix]
    }

    #[test]
    fn places_stay_when_the_image_is_scaled_or_loses_rows() {
        for raster_type in [1, PIXEL_IS_POINT] {
            let keys = [1, 1, 0, 1, RASTER_TYPE, 0, 1, raster_type];
            let keys = Field {
                tag: KEY_DIRECTORY,
                kind: 3,
                value: keys.into_iter().flat_map(u16::to_ne_bytes).collect(),
            };
            let matrix = [
                30.0, 0.0, 0.0, 400.0, 0.0, -20.0, 0.0, 900.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
                1.0,
            ];
            let mut geo = GeoFields(vec![
                doubles(PIXEL_SCALE, &[30.0, 20.0, 0.0]),
                doubles(TIE_POINTS, &[10.0, 5.0, 0.0, 700.0, 800.0, 0.0]),
                doubles(TRANSFORMATION, &matrix),
                keys,
            ]);
            let shift = if raster_type == PIXEL_IS_POINT {
                0.5
            } else {
                0.0
            };
            let before = places(&geo, 7.0 - shift, 3.0 - shift);
            geo.scale([2.0, 3.0]);
            assert_eq!(
                places(&geo, 14.0 - shift, 9.0 - shift),
                before,
                "type {raster_type}"
            );
            geo.move_up(5);
            let moved = places(&geo, 14.0 - shift, 4.0 - shift);
            let same = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-9;
            let mut pairs = moved.as_flattened().iter().zip(before.as_flattened());
            assert!(pairs.all(same), "without five rows: {moved:?} {before:?}");
        }
    }

    #[test]
    fn the_value_of_no_data_is_a_text() {
        let field = |text: &str| Field {
            tag: GDAL_NO_DATA,
            kind: 2,
            value: text.into(),
        };
        let no_data = |text| GeoFields(vec![field(text)]).no_data();
        assert_eq!(no_data("-9999\0"), Some(-9999.0));
        assert_eq!(
            no_data("-3.4028234663852886e+38 \0"),
            Some(f64::from(f32::MIN))
        );
        assert!(no_data("nan\0").is_some_and(f64::is_nan));
        assert_eq!(no_data("none"), None);
    }
}
