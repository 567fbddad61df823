//! Numbers of layers as people write them: `all`, `6`, `1-6`, `1-4,9`.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Layers of a model, counted from 1; all of them by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerRanges(Option<Vec<RangeInclusive<usize>>>);

impl LayerRanges {
    /// Some layers alone.
    pub fn of(layers: impl IntoIterator<Item = usize>) -> Self {
        let mut ranges: Vec<RangeInclusive<usize>> = Vec::new();
        for layer in layers {
            match ranges.last_mut() {
                Some(last) if *last.end() + 1 == layer => *last = *last.start()..=layer,
                _ => ranges.push(layer..=layer),
            }
        }
        Self(Some(ranges))
    }

    /// Whether a layer is one of them.
    pub fn contains(&self, layer: usize) -> bool {
        self.0.as_ref().is_none_or(|ranges| ranges.iter().any(|range| range.contains(&layer)))
    }

    /// Whether these are all layers of every model.
    pub fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// The highest layer that is named; `None` for all.
    pub fn highest(&self) -> Option<usize> {
        self.0.as_ref()?.iter().map(|range| *range.end()).max()
    }
}

impl FromStr for LayerRanges {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "all" {
            return Ok(Self(None));
        }
        let wrong = || {
            format!("the layers \"{text}\" must be \"all\", or numbers and ranges from 1, such as \"1-6\" or \"1-4,9\"")
        };
        let number = |text: &str| text.trim().parse().ok().filter(|number: &usize| *number > 0).ok_or_else(wrong);
        let range = |part: &str| {
            let (start, end) = part.split_once('-').unwrap_or((part, part));
            let range = number(start)?..=number(end)?;
            if range.is_empty() { Err(wrong()) } else { Ok(range) }
        };
        Ok(Self(Some(text.split(',').map(range).collect::<Result<_, String>>()?)))
    }
}

impl fmt::Display for LayerRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(ranges) = &self.0 else { return f.write_str("all") };
        let texts = ranges.iter().map(|range| match (range.start(), range.end()) {
            (start, end) if start == end => start.to_string(),
            (start, end) => format!("{start}-{end}"),
        });
        f.write_str(&texts.collect::<Vec<_>>().join(","))
    }
}

impl Serialize for LayerRanges {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LayerRanges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "\"all\", or layers such as \"1-6\"")]
        enum Written {
            One(usize),
            Text(String),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::One(layer) => layer.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_read_as_they_are_written() -> Result<(), String> {
        for (text, inside, outside) in
            [("1-6", vec![1, 6], vec![7]), ("3", vec![3], vec![2, 4]), ("1-2, 5", vec![1, 2, 5], vec![3, 6])]
        {
            let layers: LayerRanges = text.parse()?;
            assert!(inside.iter().all(|layer| layers.contains(*layer)), "{text}");
            assert!(!outside.iter().any(|layer| layers.contains(*layer)), "{text}");
            assert_eq!(layers.to_string(), text.replace(' ', ""));
        }
        assert!("all".parse::<LayerRanges>()?.is_all());
        assert_eq!(LayerRanges::of([1, 2, 3, 7]).to_string(), "1-3,7");
        for text in ["", "0-3", "6-1", "a", "1-", "1..6"] {
            assert!(text.parse::<LayerRanges>().is_err_and(|error| error.contains("1-6")), "{text}");
        }
        Ok(())
    }
}
