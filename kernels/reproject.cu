// Entry points of reprojection: what photos show at the places that the pixels of a view see.
//
// A pixel's depth puts it at a place. Each of the photos chosen for the view shows it if the place lies in the photo
// and the photo sees a surface at the same depth there. It counts the more, the smaller the angle between photo and
// view. Out, per pixel: the logarithm of the light (3) in the photo that counts most, and 1, or 0 where none shows the
// place; the mean over the photos (3), and the share of the photos that show it.
//
// Pixels without a surface see what is infinitely far, which a photo shows where it sees no surface either.
// scratch, per pixel: place (3), its direction (3) from the view's camera, the sum of weights, the largest weight; and
// of the photo at hand: where it shows the place (2), its depth there, by how much it counts, and the vignette. One
// index is one pixel; views are launched one by one. Has no gradient.
#include "camera.h"
#include "functions.h"
#include "rays.h"

#define FAR ((real)1e30)  // stands for no surface: beyond any depth, but finite
#define MIN_ANGLE 0.02f   // radians: photos that see a place under less of an angle count alike
#define BORDER 0.03f      // share of a photo's shorter side in which it fades out
#define LEAST_WEIGHT 1e-6f
#define SCRATCH 13  // planes of a view

// The camera's place in the world.
DEVICE Vec3 centre_of(const Pose& pose) {
    const Vec3 away = rotate_transposed(pose, {pose.m[3], pose.m[7], pose.m[11]});
    return {-away.x, -away.y, -away.z};
}

struct Photo {
    View view;
    Vec3 centre;
    const byte* pixels;
    const real *surface, *curve, *gain, *vignette;
    int width, height;
    real half_diagonal;
};
DEVICE Photo load_photo(const ReprojectArguments& args, int64 index) {
    const int64* place = args.places + 5 * index;
    Photo photo;
    photo.view = load_view(args.camera, index);
    photo.centre = centre_of(photo.view.pose);
    photo.pixels = args.pixels + place[0], photo.surface = args.surfaces + place[1];
    photo.width = (int)place[2], photo.height = (int)place[3];
    photo.view.width = (real)photo.width, photo.view.height = (real)photo.height;
    photo.curve = args.curve + 3 * 256 * place[4], photo.vignette = args.vignette + 5 * place[4];
    photo.gain = args.gain + 3 * index;
    photo.half_diagonal = sqrt(photo.view.width * photo.view.width + photo.view.height * photo.view.height) / 2;
    return photo;
}

DEVICE Vec3 scaled(Vec3 v, real factor) { return {v.x * factor, v.y * factor, v.z * factor}; }
DEVICE Vec3 less(Vec3 a, Vec3 b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
DEVICE real least(real a, real b) { return a < b ? a : b; }
DEVICE real to_unit(real x) { return x < 0 ? 0 : x > 1 ? 1 : x; }

// The value of one channel between four pixels; `x` and `y` from 0 to the size, pixels' centres at halves.
struct Between {
    int64 top_left, right, below;  // offsets in bytes
    real x, y;
};
DEVICE Between between_pixels(const Photo& photo, real u, real v) {
    const real x = u - (real)0.5 > 0 ? u - (real)0.5 : 0, y = v - (real)0.5 > 0 ? v - (real)0.5 : 0;
    const int column = (int)least(x, (real)(photo.width - 1)), row = (int)least(y, (real)(photo.height - 1));
    Between at;
    at.top_left = 3 * ((int64)row * photo.width + column);
    at.right = column + 1 < photo.width ? 3 : 0, at.below = row + 1 < photo.height ? 3 * (int64)photo.width : 0;
    at.x = x - column, at.y = y - row;
    return at;
}
DEVICE real value_at(const byte* pixels, const Between& at) {
    const byte* p = pixels + at.top_left;
    const real top = p[0] + ((real)p[at.right] - p[0]) * at.x;
    const real bottom = p[at.below] + ((real)p[at.below + at.right] - p[at.below]) * at.x;
    return top + (bottom - top) * at.y;
}

// The logarithm of the vignette where a photo has a pixel.
DEVICE real log_vignette(const View& c, const real* k, real half_diagonal, real u, real v) {
    const real x = (u - c.width / 2) / half_diagonal - k[3];
    const real y = (v - c.height / 2) / half_diagonal - k[4];
    const real r2 = x * x + y * y, factor = 1 + r2 * (k[0] + r2 * (k[1] + r2 * k[2]));
    return log_of(factor > (real)0.05 ? factor : (real)0.05);
}

// By how much a place counts in a photo that sees it at a pixel, hidden or not; 0 where it lies outside.
DEVICE real weight_of(const View& c, Vec3 centre, Pixel pixel, Vec3 place, Vec3 direction) {
    const Vec3 seen = less(place, centre);
    const Vec3 turned = less(direction, scaled(seen, 1 / sqrt(dot(seen, seen))));
    const real border = least(least(pixel.u, pixel.v), least(c.width - pixel.u, c.height - pixel.v));
    const real inner = to_unit(border / ((real)BORDER * least(c.width, c.height)));
    return is_visible(c, pixel) ? inner / (sqrt(dot(turned, turned)) + (real)MIN_ANGLE) : 0;
}

// 1 where the photo sees a surface as far away as the pixel, falling to 0 where it lies twice the tolerance off.
DEVICE real agreement(const Photo& photo, real u, real v, real z, bool far, real tolerance) {
    const int columns = (photo.width + 1) / 2, rows = (photo.height + 1) / 2;
    const int column = (int)(u / 2), row = (int)(v / 2);
    const real surface =
        photo.surface[(int64)(row < rows ? row : rows - 1) * columns + (column < columns ? column : columns - 1)];
    if (far) return surface >= FAR ? 1 : 0;
    return to_unit(2 - abs(z - surface) / (tolerance * z));
}

// Writes the place that a pixel sees and its direction. The loops' bodies are functions, or compilers keep their
// vectors in memory.
DEVICE void find_place(const RayLookup& rays, Vec3 centre, real depth, bool along_axis, real far, int x, int y,
                       real* scratch, int64 plane) {
    const Vec3 local = find_local_direction(rays, x, y);
    const Vec3 unit = scaled(local, 1 / sqrt(dot(local, local)));
    const real distance = !(depth < FAR) ? far : along_axis ? depth / unit.z : depth;
    const Vec3 direction = rotate_transposed(rays.pose, unit);
    scratch[0] = centre.x + direction.x * distance, scratch[plane] = centre.y + direction.y * distance;
    scratch[2 * plane] = centre.z + direction.z * distance;
    scratch[3 * plane] = direction.x, scratch[4 * plane] = direction.y, scratch[5 * plane] = direction.z;
}

DEVICE void find_places(const ReprojectArguments& args, real* scratch) {
    const int columns = (int)args.width, rows = (int)args.height;
    const int64 plane = (int64)columns * rows;
    const real* depth = args.depth + args.view * plane;
    const RayLookup rays = load_rays(args.rays, args.view, 0);
    const Vec3 centre = centre_of(rays.pose);
    const real far = (real)args.far;
    const bool along_axis = args.depth_along_axis;
    FOR_EACH_PIXEL (x, y, columns, rows) {
        const int64 i = y * columns + x;
        find_place(rays, centre, depth[i], along_axis, far, x, (int)y, scratch + i, plane);
    }
}

// Writes where the place of a pixel lies in a photo, its depth there, by how much it counts if nothing hides it, and
// the vignette there.
template <int MODEL, bool MOVING>
DEVICE void find_pixel(const Photo& photo, real* scratch, int64 plane) {
    const Vec3 place = {scratch[0], scratch[plane], scratch[2 * plane]};
    const Vec3 direction = {scratch[3 * plane], scratch[4 * plane], scratch[5 * plane]};
    const Pixel pixel = project_point<MODEL, MOVING>(photo.view, place, {0, 0, 0}, 0);
    scratch[8 * plane] = pixel.u, scratch[9 * plane] = pixel.v, scratch[10 * plane] = pixel.z;
    scratch[11 * plane] = weight_of(photo.view, photo.centre, pixel, place, direction);
    scratch[12 * plane] = log_vignette(photo.view, photo.vignette, photo.half_diagonal, pixel.u, pixel.v);
}

// Adds what a photo shows.
template <int MODEL, bool MOVING>
DEVICE void look_up(const ReprojectArguments& args, const Photo& photo, real* scratch, real* shown) {
    const int columns = (int)args.width, rows = (int)args.height;
    const int64 plane = (int64)columns * rows;
    FOR_EACH_PIXEL (x, y, columns, rows) {
        find_pixel<MODEL, MOVING>(photo, scratch + y * columns + x, plane);
    }
    const real *u = scratch + 8 * plane, *v = u + plane, *z = v + plane, *counts = z + plane, *dark = counts + plane;
    const real *depth = args.depth + args.view * plane, *curve = photo.curve, *gain = photo.gain;
    const real tolerance = (real)args.tolerance;
    real *weights = scratch + 6 * plane, *largest = scratch + 7 * plane;
    FOR_EACH_PIXEL_IN_TURN (x, y, columns, rows) {
        const int64 i = y * columns + x;
        if (!(counts[i] > 0)) continue;
        const real agrees = agreement(photo, u[i], v[i], z[i], !(depth[i] < FAR), tolerance);
        const real weight = counts[i] * agrees;
        if (!(weight > (real)LEAST_WEIGHT)) continue;
        const Between at = between_pixels(photo, u[i], v[i]);
        const bool counts_most = weight > largest[i];
        for (int c = 0; c < 3; ++c) {
            const real value = value_at(photo.pixels + c, at);
            const int low = (int)least(value, 254);
            const real* curve_of = curve + 256 * c + low;
            const real light = curve_of[0] + (curve_of[1] - curve_of[0]) * (value - low) - gain[c] - dark[i];
            shown[(4 + c) * plane + i] += weight * light;
            if (counts_most) shown[c * plane + i] = light;
        }
        if (counts_most) largest[i] = weight;
        weights[i] += weight, shown[7 * plane + i] += agrees;
    }
}

template <int MODEL>
DEVICE void reproject(const ReprojectArguments& args) {
    const int columns = (int)args.width, rows = (int)args.height;
    const int64 plane = (int64)columns * rows, pixels = plane;
    real* scratch = args.scratch + args.view * SCRATCH * plane;
    real* shown = args.shown + args.view * 8 * plane;
    find_places(args, scratch);
    FOR_EACH (i, pixels) {
        scratch[6 * plane + i] = 0, scratch[7 * plane + i] = 0;
        for (int c = 0; c < 8; ++c) shown[c * plane + i] = 0;
    }
    for (int k = 0; k < args.chosen_count; ++k) {
        const int64 index = args.chosen[args.view * args.chosen_count + k];
        if (index < 0) continue;
        const Photo photo = load_photo(args, index);
        if (photo.view.shutter == nullptr) look_up<MODEL, false>(args, photo, scratch, shown);
        else look_up<MODEL, true>(args, photo, scratch, shown);
    }
    FOR_EACH (i, pixels) {
        const real weight = scratch[6 * plane + i], count = (real)args.chosen_count;
        shown[3 * plane + i] = weight > 0 ? 1 : 0;
        for (int c = 4; c < 7; ++c) shown[c * plane + i] /= weight > 0 ? weight : 1;
        shown[7 * plane + i] /= count;
    }
}

KERNEL(reproject_opencv, ReprojectArguments) { reproject<OPENCV>(args); }
KERNEL(reproject_fisheye, ReprojectArguments) { reproject<FISHEYE>(args); }
KERNEL(reproject_ocam, ReprojectArguments) { reproject<OCAM>(args); }
