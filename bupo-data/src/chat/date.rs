//! The date and time that templates are given in place of the clock.

use std::{fmt, str::FromStr};

use chrono::{Local, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use serde::{Deserialize, Serialize};

use super::error::ChatError;

/// The format that dates are written in.
const FORMAT: &str = "%Y-%m-%dT%H:%M:%S";

/// The local date and time, to the second, that a chat template writes as today's: what `strftime_now` formats.
///
/// It is written as ISO 8601, `2026-01-31T14:05:00`, and read from that or from `2026-01-31`, which is midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TemplateDate(NaiveDateTime);

impl TemplateDate {
    /// The local date and time.
    pub fn now() -> Self {
        let now = Local::now().naive_local();
        Self(now.with_nanosecond(0).unwrap_or(now))
    }

    pub(super) fn time(self) -> NaiveDateTime {
        self.0
    }
}

impl fmt::Display for TemplateDate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.format(FORMAT).fmt(formatter)
    }
}

impl FromStr for TemplateDate {
    type Err = ChatError;

    fn from_str(text: &str) -> Result<Self, ChatError> {
        let date = || text.parse::<NaiveDate>().map(|date| date.and_time(NaiveTime::MIN));
        NaiveDateTime::parse_from_str(text, FORMAT)
            .or_else(|_| date())
            .map(Self)
            .map_err(|_| ChatError::Date(text.to_owned()))
    }
}

impl TryFrom<String> for TemplateDate {
    type Error = ChatError;

    fn try_from(text: String) -> Result<Self, ChatError> {
        text.parse()
    }
}

impl From<TemplateDate> for String {
    fn from(date: TemplateDate) -> Self {
        date.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_they_are_written() {
        for text in ["2026-01-31T14:05:09", "1999-12-31T00:00:00"] {
            let date: TemplateDate = text.parse().unwrap();
            assert_eq!(date.to_string(), text);
            let json = serde_json::to_string(&date).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<TemplateDate>(&json).unwrap(), date);
        }
        assert_eq!("2024-02-29".parse::<TemplateDate>().unwrap().to_string(), "2024-02-29T00:00:00");
        let now = TemplateDate::now();
        assert_eq!(now.to_string().parse::<TemplateDate>().unwrap(), now);
    }

    #[test]
    fn other_texts_are_no_dates() {
        for text in ["", "2023-02-29", "31.01.2026", "2026-01-31T25:00:00", "2026-01-31 14:05:09"] {
            let error = text.parse::<TemplateDate>().unwrap_err().to_string();
            assert_eq!(error, format!("`{text}` is not a date: write YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS"));
        }
    }
}
