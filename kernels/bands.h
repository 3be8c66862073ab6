// The CPU's order of the same work: points are projected once and kept, as hits, by bands of rows; one thread owns a
// band, so nothing is atomic and the sums have one order, whatever the number of threads.
//
// hits: chunk by chunk, within a chunk by band, within a band by rising point. offsets[b][band][chunk] is where they
// start and offsets[b][band + 1][chunk] where they end. band_rows is a multiple of 2^(L-1).
#pragma once
#include "camera.h"

struct Hit {
    int point;
    unsigned short x, y;
    real z;
    int levels;  // how many levels it is drawn at; GHOST is added for ghosts
};
static const int GHOST = 64;
static const int RUN = 256;         // points projected at a time
static const int CHUNK_RUNS = 64;   // runs of a chunk, at most
static const int CHUNK_HITS = 4096; // points of a chunk, at most

struct Run {
    int64 first;
    int count;
};
struct ChunkRange {
    int64 run_first, run_last, base;  // base: where its hits start
    int count;
};

// What one thread needs to project a run.
struct Lane {
    real u[RUN], v[RUN], z[RUN], radius_px[RUN];
    byte visible[RUN];
};

template <int MODEL, bool NORMALS>
static void project_run(const Arguments& args, const View& c, const Run& run, Lane& lane) {
    const real* xyz = args.xyz + 3 * run.first;
    const real* normals = NORMALS ? args.normals + 3 * run.first : nullptr;
    const real* radius = args.radius + run.first;
    const real focal = c.zoom * c.fx;
#pragma GCC ivdep
    for (int i = 0; i < run.count; ++i) {
        Pixel pixel;
        const Vec3 normal = NORMALS ? load_vec3(normals, i) : Vec3{0, 0, 0};
        lane.visible[i] = project_point<MODEL>(c, load_vec3(xyz, i), normal, NORMALS, &pixel) & finite(radius[i]);
        lane.u[i] = pixel.u, lane.v[i] = pixel.v, lane.z[i] = pixel.z, lane.radius_px[i] = focal * radius[i] / pixel.z;
    }
}

// The same from points that are already projected, for rasterize.
static void read_run(const Arguments& args, int64 view, const Run& run, Lane& lane) {
    const int64 first = view * args.points + run.first;
    for (int i = 0; i < run.count; ++i) {
        lane.u[i] = args.uv[2 * (first + i)], lane.v[i] = args.uv[2 * (first + i) + 1];
        lane.z[i] = args.z[first + i], lane.radius_px[i] = args.radius_px[first + i];
        lane.visible[i] = args.visible[first + i];
    }
}

typedef void (*RunReader)(const Arguments&, const View&, int64, const Run&, Lane&);
template <int MODEL, bool NORMALS>
static void run_projector(const Arguments& args, const View& c, int64, const Run& run, Lane& lane) {
    project_run<MODEL, NORMALS>(args, c, run, lane);
}
static void run_reader(const Arguments& args, const View&, int64 view, const Run& run, Lane& lane) {
    read_run(args, view, run, lane);
}
template <int MODEL>
static RunReader pick_projector(const Arguments& args) {
    return args.normals ? run_projector<MODEL, true> : run_projector<MODEL, false>;
}

// Cuts the visited points of a view into runs and chunks.
static void plan_chunks(const Arguments& args, int64 view, std::vector<Run>& runs, std::vector<ChunkRange>& chunks, int64 base) {
    runs.clear(), chunks.clear();
    ChunkRange chunk = {0, 0, base, 0};
    for (int64 k = 0; k < args.blocks; ++k) {
        const int64 first = k * args.block_size;
        const int size = (int)std::min<int64>(args.block_size, args.points - first);
        const int visit = args.visit ? args.visit[view * args.blocks + k] : size;
        for (int start = 0; start < visit; start += RUN) {
            const int count = std::min(RUN, visit - start);
            if (chunk.count + count > CHUNK_HITS || chunk.run_last - chunk.run_first == CHUNK_RUNS) {
                chunks.push_back(chunk);
                chunk = {chunk.run_last, chunk.run_last, chunk.base + chunk.count, 0};
            }
            runs.push_back({first + start, count});
            ++chunk.run_last, chunk.count += count;
        }
    }
    if (chunk.count) chunks.push_back(chunk);
}

// Projects the points of a chunk and sorts those that are drawn, or look, by band.
static void fill_chunk(const Arguments& args, const View& c, int64 view, const std::vector<Run>& runs,
                       const ChunkRange& chunk, int64 index, int bands, RunReader read) {
    Lane lane;
    Hit found[CHUNK_HITS];
    std::vector<int> start(bands + 1, 0);
    int count = 0;
    const int shift = __builtin_ctz((unsigned)args.band_rows);
    const real threshold = (real)args.radius_threshold;
    const int most = (int)args.levels;
    for (int64 r = chunk.run_first; r < chunk.run_last; ++r) {
        const Run& run = runs[r];
        read(args, c, view, run, lane);
        const byte* ghosts = args.ghosts ? args.ghosts + view * args.points + run.first : nullptr;
        for (int i = 0; i < run.count; ++i) {
            if (!lane.visible[i]) continue;
            real radius_px = lane.radius_px[i];
            int levels = 0;
            while (levels < most && radius_px >= threshold) ++levels, radius_px *= (real)0.5;
            if (levels == 0) continue;
            const unsigned short y = (unsigned short)lane.v[i];
            if (ghosts && ghosts[i]) levels += GHOST;
            found[count++] = {(int)(run.first + i), (unsigned short)lane.u[i], y, lane.z[i], levels};
            ++start[(y >> shift) + 1];
        }
    }
    Hit* out = (Hit*)args.hits + chunk.base;
    int64* offsets = args.offsets + view * (bands + 1) * args.chunks + index;
    for (int band = 0; band < bands; ++band) start[band + 1] += start[band];
    for (int band = 0; band <= bands; ++band) offsets[band * args.chunks] = chunk.base + start[band];
    for (int i = 0; i < count; ++i) out[start[found[i].y >> shift]++] = found[i];
    if (count < chunk.count) std::memset((void*)(out + count), 0, (chunk.count - count) * sizeof(Hit));
}

static int count_bands(const Arguments& args) { return (int)((args.height + args.band_rows - 1) / args.band_rows); }

// Fills hits and offsets of all views; offsets must hold zeros.
static void bin_points(const Arguments& args, int threads, RunReader read, bool projected) {
    std::vector<Run> runs;
    std::vector<ChunkRange> chunks;
    const int bands = count_bands(args);
    int64 base = 0;
    for (int64 view = 0; view < args.views; ++view) {
        const View c = projected ? View() : load_view(args, view);
        plan_chunks(args, view, runs, chunks, base);
        parallel_for((int64)chunks.size(), threads, [&](int64 i) {
            fill_chunk(args, c, view, runs, chunks[i], i, bands, read);
        });
        if (!chunks.empty()) base = chunks.back().base + chunks.back().count;
    }
}

// The rows that a band covers at one level, in interleaved scratch.
struct BandLevel {
    int64 first;  // cell of (row_first, 0), in cells of the scratch
    int row_first, row_last, columns, rows;
};

// Lays the levels of a band out in scratch, with `halo` rows on either side; returns the number of cells.
static int64 layout_band(const Arguments& args, int64 band, int halo, BandLevel* out) {
    int64 cells = 0;
    for (int level = 0; level < args.levels; ++level) {
        BandLevel& b = out[level];
        b.columns = (int)((args.width + (1ll << level) - 1) >> level);
        b.rows = (int)((args.height + (1ll << level) - 1) >> level);
        b.row_first = (int)((band * args.band_rows) >> level) - halo;
        b.row_last = std::min(b.rows + halo, (int)(((band + 1) * args.band_rows) >> level) + halo);
        b.first = cells;
        cells += (int64)(b.row_last - b.row_first) * b.columns;
    }
    return cells;
}

template <class Body>
DEVICE void for_each_hit(const Arguments& args, int64 view, int64 band, const Body& body) {
    const int64* begin = args.offsets + (view * (count_bands(args) + 1) + band) * args.chunks;
    const int64* end = begin + args.chunks;
    const Hit* hits = (const Hit*)args.hits;
    for (int64 chunk = 0; chunk < args.chunks; ++chunk) {
        if (chunk && !end[chunk]) break;  // only chunks that were never filled end at 0
        for (int64 i = begin[chunk]; i < end[chunk]; ++i) body(hits[i]);
    }
}

DEVICE int64 cell_of(const BandLevel& b, const Hit& hit, int level) {
    return b.first + (int64)((hit.y >> level) - b.row_first) * b.columns + (hit.x >> level);
}

// Cells hold depth, weight, then C sums. CHANNELS is C, or 0 where C is only known at run time.
template <int CHANNELS>
static void draw_band(const Arguments& args, int64 view, int64 band, real* scratch, const BandLevel* layout, int64 cells) {
    const int channels = CHANNELS ? CHANNELS : (int)args.channels, stride = channels + 2;
    const real infinity = std::numeric_limits<real>::infinity(), tolerance = (real)(1 + args.depth_tolerance);
    for (int64 i = 0; i < cells; ++i) {
        scratch[i * stride] = infinity;
        for (int c = 1; c < stride; ++c) scratch[i * stride + c] = 0;
    }
    for_each_hit(args, view, band, [&](const Hit& hit) {
        for (int level = 0; level < hit.levels && hit.levels < GHOST; ++level) {
            real* depth = scratch + cell_of(layout[level], hit, level) * stride;
            *depth = hit.z < *depth ? hit.z : *depth;
        }
    });
    for_each_hit(args, view, band, [&](const Hit& hit) {
        const real* feature = args.features + (int64)hit.point * channels;
        for (int level = 0; level < hit.levels && hit.levels < GHOST; ++level) {
            real* cell = scratch + cell_of(layout[level], hit, level) * stride;
            if (!(hit.z <= cell[0] * tolerance)) continue;
            cell[1] += 1;
            for (int c = 0; c < channels; ++c) cell[2 + c] += feature[c];
        }
    });
    for (int level = 0; level < args.levels; ++level) {
        const BandLevel& b = layout[level];
        const int64 plane = (int64)b.rows * b.columns, count = (int64)(b.row_last - b.row_first) * b.columns;
        const int64 at = (int64)b.row_first * b.columns;
        const real* cell = scratch + b.first * stride;
        real* depth = args.depth[level] + view * plane + at;
        real* weight = args.weight[level] + view * plane + at;
        for (int64 i = 0; i < count; ++i) depth[i] = cell[i * stride], weight[i] = cell[i * stride + 1];
        for (int c = 0; c < channels; ++c) {
            const int64 offset = (view * channels + c) * plane + at;
            real* image = args.image[level] + offset;
            const real* behind = args.background[level] + (args.background_full ? offset : c);
            const int64 step = args.background_full ? 1 : 0;
            for (int64 i = 0; i < count; ++i) {
                const real w = cell[i * stride + 1], sum = cell[i * stride + 2 + c];
                image[i] = w > 0 ? sum / w : behind[i * step];
            }
        }
    }
}

template <int CHANNELS>
static void draw_bands(const Arguments& args, int threads) {
    const int bands = count_bands(args);
    const int64 stride = args.channels + 2;
    parallel_for(args.views * bands, threads, [&](int64 task) {
        BandLevel layout[MAX_LEVELS];
        const int64 cells = layout_band(args, task % bands, 0, layout);
        std::vector<real> scratch(cells * stride);
        draw_band<CHANNELS>(args, task / bands, task % bands, scratch.data(), layout, cells);
    });
}
