//! Renders SVG as PNG, with an embedded font.

use std::sync::{Arc, LazyLock};

use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::fontdb::{Database, Source};
use resvg::usvg::{Options, Tree};

/// In pixels: 85 mm at 600 dots per inch, 170 mm at 300.
pub(crate) const WIDTH: f32 = 2008.0;

const FAMILY: &str = "DejaVu Sans";

/// DejaVu Sans, which is compiled in, so that the picture does not depend on system fonts.
static FONTS: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let mut fonts = Database::new();
    for face in [dejavu::sans::regular, dejavu::sans::bold] {
        fonts.load_font_source(Source::Binary(Arc::new(face())));
    }
    fonts.set_sans_serif_family(FAMILY);
    Arc::new(fonts)
});

/// Parses an SVG and lays out its text.
pub(crate) fn parse(svg: &str) -> Result<Tree, String> {
    let options = Options { fontdb: FONTS.clone(), font_family: FAMILY.into(), ..Options::default() };
    Tree::from_str(svg, &options).map_err(|error| error.to_string())
}

/// The bytes of a PNG file of [`WIDTH`].
pub(crate) fn render(svg: &str) -> Result<Vec<u8>, String> {
    let tree = parse(svg)?;
    let scale = WIDTH / tree.size().width();
    let height = (tree.size().height() * scale).ceil();
    let mut pixels = Pixmap::new(WIDTH as u32, height as u32).ok_or("the picture has no area")?;
    // The picture may cover the last row of pixels only in part.
    pixels.fill(Color::WHITE);
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| error.to_string())
}
