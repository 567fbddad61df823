//! The pages of a column, checked before their values are decoded.

use parquet::{
    column::page::{Page, PageMetadata, PageReader},
    errors::{ParquetError, Result},
};

/// Checks the counts of every page of `inner`, by which the decoders allocate, and leaves out pages without values:
/// pyarrow writes such pages, and the column readers of the `parquet` crate would take one for the end of the column.
pub(super) struct CheckedPages<R> {
    inner: R,
    /// The number of values in the following pages, by the footer.
    values_left: u64,
    /// The next page, if it was looked at.
    next: Option<Page>,
}

impl<R: PageReader> CheckedPages<R> {
    /// The pages of a column of `values` values by the footer, nulls included.
    pub(super) fn new(inner: R, values: u64) -> Self {
        Self { inner, values_left: values, next: None }
    }

    fn read_page(&mut self) -> Result<Option<Page>> {
        while let Some(page) = self.inner.get_next_page()? {
            self.check(&page)?;
            if page.is_dictionary_page() || page.num_values() > 0 {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    fn check(&mut self, page: &Page) -> Result<()> {
        let (values, bytes) = (u64::from(page.num_values()), page.buffer().len() as u64);
        if !page.is_dictionary_page() {
            let left = self.values_left.checked_sub(values);
            self.values_left = left.ok_or_else(|| general("its pages have more values than the footer gives"))?;
        } else if values > bytes {
            // The values of a dictionary take a byte or more each.
            return Err(general("a dictionary has more values than bytes"));
        }
        Ok(())
    }
}

impl<R: PageReader> PageReader for CheckedPages<R> {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        match self.next.take() {
            Some(page) => Ok(Some(page)),
            None => self.read_page(),
        }
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.next = self.get_next_page()?;
        Ok(self.next.as_ref().map(|page| PageMetadata {
            num_rows: match page {
                Page::DataPageV2 { num_rows, .. } => Some(*num_rows as usize),
                _ => None,
            },
            num_levels: page.is_data_page().then_some(page.num_values() as usize),
            is_dict: page.is_dictionary_page(),
        }))
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.get_next_page().map(drop)
    }
}

impl<R: PageReader> Iterator for CheckedPages<R> {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

fn general(reason: &str) -> ParquetError {
    ParquetError::General(reason.to_owned())
}
