//! Writing a matrix from several threads, each its own columns.

use std::marker::PhantomData;
use std::ops::Range;

/// A row-major matrix of which threads write different elements.
pub(crate) struct SharedMatrix<'a> {
    start: *mut f32,
    rows: usize,
    width: usize,
    values: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer is to a borrowed slice of `f32`, which may be sent; writing is an unsafe method.
unsafe impl Send for SharedMatrix<'_> {}
// SAFETY: the only accesses are `write` and `add`, whose callers promise that no two threads touch one element.
unsafe impl Sync for SharedMatrix<'_> {}

impl<'a> SharedMatrix<'a> {
    pub(crate) fn new(values: &'a mut [f32], width: usize) -> Self {
        let rows = values.len().checked_div(width).unwrap_or(0);
        Self { start: values.as_mut_ptr(), rows, width, values: PhantomData }
    }

    /// Writes to a row, from a column on.
    ///
    /// # Safety
    /// No other thread writes any of these elements.
    pub(crate) unsafe fn write(&self, row: usize, columns: Range<usize>, values: &[f32]) {
        assert!(row < self.rows && columns.end <= self.width && columns.len() <= values.len(), "inside the matrix");
        // SAFETY: the elements are inside the slice, and no one else accesses them while it is borrowed.
        unsafe {
            let to = self.start.add(row * self.width + columns.start);
            std::ptr::copy_nonoverlapping(values.as_ptr(), to, columns.len());
        }
    }

    /// Adds to the elements of a row, from a column on.
    ///
    /// # Safety
    /// No other thread accesses any of these elements.
    pub(crate) unsafe fn add(&self, row: usize, columns: Range<usize>, values: &[f32]) {
        assert!(row < self.rows && columns.end <= self.width, "inside the matrix");
        // SAFETY: the elements are inside the slice, and no one else accesses them while it is borrowed.
        let to =
            unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.width + columns.start), columns.len()) };
        to.iter_mut().zip(values).for_each(|(to, value)| *to += value);
    }
}
