//! All means as one tidy table: one row per model, policy, statistic and slice.

use std::io::Write;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::AnalysisError;
use crate::analysis::{Analysis, Row};

const SCHEMA: &str = "message measures {
    required binary model (UTF8);
    required binary norm (UTF8);
    required binary site (UTF8);
    required binary kind (UTF8);
    optional int64 layer;
    required binary statistic (UTF8);
    required binary unit (UTF8);
    required binary slice (UTF8);
    required double mean;
    optional double low;
    optional double high;
    required int64 responses;
    required int64 tokens;
}";

const HEADER: [&str; 13] = [
    "model",
    "norm",
    "site",
    "kind",
    "layer",
    "statistic",
    "unit",
    "slice",
    "mean",
    "low",
    "high",
    "responses",
    "tokens",
];

/// Writes the means as CSV with a header. Missing values are empty.
///
/// # Errors
/// If the writer fails.
pub fn write_csv(analyses: &[Analysis], to: impl Write) -> Result<(), AnalysisError> {
    let mut writer = csv::Writer::from_writer(to);
    writer.write_record(HEADER)?;
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    for (analysis, row) in rows(analyses) {
        let [model, norm, site, kind, statistic, unit, slice] = texts(analysis, row);
        let interval = row.estimate.interval;
        let layer = row.site.layer().map(|layer| layer.to_string()).unwrap_or_default();
        let [mean, low, high] =
            [Some(row.estimate.mean), interval.map(|(low, _)| low), interval.map(|(_, high)| high)].map(number);
        let counts = [row.responses.to_string(), row.tokens.to_string()];
        writer.write_record(
            [model, norm, site, kind, layer, statistic, unit, slice, mean, low, high].iter().chain(&counts),
        )?;
    }
    writer.flush().map_err(csv::Error::from)?;
    Ok(())
}

/// Writes the table of [`write_csv`] as Parquet.
///
/// # Errors
/// If the writer fails.
pub fn write_parquet(analyses: &[Analysis], to: impl Write + Send) -> Result<(), AnalysisError> {
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let properties = Arc::new(WriterProperties::builder().set_compression(Compression::SNAPPY).build());
    let mut writer = SerializedFileWriter::new(to, schema, properties)?;
    let mut group = writer.next_row_group()?;
    let texts: Vec<[String; 7]> = rows(analyses).map(|(analysis, row)| texts(analysis, row)).collect();
    let text = |index: usize| Values::Texts(texts.iter().map(|texts| texts[index].as_str().into()).collect());
    let count =
        |value: fn(&Row) -> usize| Values::Counts(rows(analyses).map(|(_, row)| Some(value(row) as i64)).collect());
    let number = |value: fn(&Row) -> Option<f64>| Values::Numbers(rows(analyses).map(|(_, row)| value(row)).collect());
    let layers = rows(analyses).map(|(_, row)| row.site.layer().map(|layer| layer as i64)).collect();
    let columns = [
        text(0),
        text(1),
        text(2),
        text(3),
        Values::Counts(layers),
        text(4),
        text(5),
        text(6),
        number(|row| Some(row.estimate.mean)),
        number(|row| row.estimate.interval.map(|(low, _)| low)),
        number(|row| row.estimate.interval.map(|(_, high)| high)),
        count(|row| row.responses),
        count(|row| row.tokens),
    ];
    for values in columns {
        let Some(mut column) = group.next_column()? else { break };
        values.write(column.untyped())?;
        column.close()?;
    }
    group.close()?;
    writer.close()?;
    Ok(())
}

/// The values of a column.
enum Values {
    Texts(Vec<ByteArray>),
    Counts(Vec<Option<i64>>),
    Numbers(Vec<Option<f64>>),
}

impl Values {
    fn write(self, column: &mut ColumnWriter<'_>) -> Result<(), ParquetError> {
        match (self, column) {
            (Self::Texts(texts), ColumnWriter::ByteArrayColumnWriter(writer)) => writer.write_batch(&texts, None, None),
            (Self::Counts(counts), ColumnWriter::Int64ColumnWriter(writer)) => {
                let (values, levels) = present(&counts);
                writer.write_batch(&values, Some(&levels), None)
            }
            (Self::Numbers(numbers), ColumnWriter::DoubleColumnWriter(writer)) => {
                let (values, levels) = present(&numbers);
                writer.write_batch(&values, Some(&levels), None)
            }
            _ => return Err(ParquetError::General("the table and its schema have different columns".into())),
        }
        .map(drop)
    }
}

/// The values that are present, and the definition level of each row: 1 if its value is present.
fn present<T: Copy>(values: &[Option<T>]) -> (Vec<T>, Vec<i16>) {
    (values.iter().flatten().copied().collect(), values.iter().map(|value| i16::from(value.is_some())).collect())
}

fn rows(analyses: &[Analysis]) -> impl Iterator<Item = (&Analysis, &Row)> {
    analyses.iter().flat_map(|analysis| analysis.rows.iter().map(move |row| (analysis, row)))
}

/// Model, norm, site, kind, statistic, unit, slice.
fn texts(analysis: &Analysis, row: &Row) -> [String; 7] {
    let norm = analysis.info.norm.of_site(row.site);
    [
        analysis.info.model.clone(),
        norm.to_string(),
        row.site.to_string(),
        row.site.kind().to_string(),
        row.statistic.name().to_string(),
        row.statistic.unit().to_string(),
        row.slice.to_string(),
    ]
}
