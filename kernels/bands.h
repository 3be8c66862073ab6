// The CPU's order of the same work: points are projected once and kept, as hits, by bands of rows; one thread owns a
// band, so nothing is atomic and the sums have one order, whatever the number of threads.
//
// Bins are (band, class): class 0 holds the hits that are drawn at all L levels, class L - 1 those drawn at level 0 only,
// classes L to 2 L - 1 likewise the ghosts. hits: chunk by chunk, within a chunk by bin, within a bin by rising point. offsets[b][bin][chunk]
// is where they start and offsets[b][bin + 1][chunk] where they end. band_rows is a multiple of 2^(L-1).
#pragma once
#include "camera.h"
#include "interleave.h"

struct Hit {
    int point;
    unsigned short x, y;
    real z;
};
static const int RUN = 256;          // points projected at a time
static const int CHUNK_RUNS = 512;   // runs of a chunk, at most
static const int CHUNK_HITS = 8192;  // points of a chunk, at most

// Asks for memory that will be read soon; large clouds are read in short, scattered runs.
DEVICE void prefetch(const void* from, int64 bytes) {
    for (int64 i = 0; i < bytes; i += 64) __builtin_prefetch((const char*)from + i);
}

struct Run {
    int64 first;
    int count;
};
struct ChunkRange {
    int64 run_first, run_last, base;  // base: where its hits start
    int count;
};

// What one thread projects at a time: short runs are joined until RUN points are there.
struct Lane {
    real u[RUN], v[RUN], z[RUN], radius_px[RUN], field[RUN], away[RUN], zero[RUN];
    int visible[RUN], x[RUN], y[RUN], levels[RUN], point[RUN];
    int count;
};

template <int MODEL, bool NORMALS, bool MOVING>
static void project_run(const Arguments& args, const View& c, const Run& run, Lane& lane) {
    const real* xyz = args.xyz + 3 * run.first;
    const real* normals = NORMALS ? args.normals + 3 * run.first : nullptr;
    const real* radius = args.radius + run.first;
    const int at = lane.count;
#pragma GCC ivdep
    for (int i = 0; i < run.count; ++i) {
        const Vec3 normal = NORMALS ? load_vec3(normals, i) : Vec3{0, 0, 0};
        const Pixel pixel = project_point<MODEL, MOVING>(c, load_vec3(xyz, i), normal, radius[i]);
        lane.u[at + i] = pixel.u, lane.v[at + i] = pixel.v, lane.z[at + i] = pixel.z, lane.field[at + i] = pixel.field;
        lane.radius_px[at + i] = pixel.radius_px, lane.away[at + i] = pixel.away, lane.zero[at + i] = pixel.zero;
    }
}

static void test_lane(const View& c, Lane& lane) {
    for (int i = 0; i < lane.count; ++i)
        lane.visible[i] = is_visible(c, lane.u[i], lane.v[i], lane.z[i], lane.field[i], lane.away[i], lane.zero[i]);
}

// The same from points that are already projected, for rasterize.
static void read_run(const Arguments& args, int64 view, const Run& run, Lane& lane) {
    const int64 first = view * args.points + run.first;
    const int at = lane.count;
    for (int i = 0; i < run.count; ++i) {
        lane.u[at + i] = args.uv[2 * (first + i)], lane.v[at + i] = args.uv[2 * (first + i) + 1];
        lane.z[at + i] = args.z[first + i], lane.radius_px[at + i] = args.radius_px[first + i];
        lane.visible[at + i] = args.visible[first + i];
    }
}

// Pixels, and levels: 0 where the point is not drawn at all.
static void place_lane(const Arguments& args, Lane& lane) {
    const real threshold = (real)args.radius_threshold;
    for (int i = 0; i < lane.count; ++i) {
        lane.x[i] = lane.visible[i] ? (int)lane.u[i] : 0;
        lane.y[i] = lane.visible[i] ? (int)lane.v[i] : 0;
        lane.levels[i] = 0;
    }
    real scale = 1;
    for (int level = 0; level < args.levels; ++level, scale *= (real)0.5)
        for (int i = 0; i < lane.count; ++i)
            lane.levels[i] += lane.radius_px[i] * scale >= threshold ? lane.visible[i] : 0;
}

typedef void (*RunReader)(const Arguments&, const View&, int64, const Run&, Lane&);
template <int MODEL, bool NORMALS, bool MOVING>
static void run_projector(const Arguments& args, const View& c, int64, const Run& run, Lane& lane) {
    project_run<MODEL, NORMALS, MOVING>(args, c, run, lane);
}
static void run_reader(const Arguments& args, const View&, int64 view, const Run& run, Lane& lane) {
    read_run(args, view, run, lane);
}
template <int MODEL>
static RunReader pick_projector(const Arguments& args) {
    if (args.shutter) return args.normals ? run_projector<MODEL, true, true> : run_projector<MODEL, false, true>;
    return args.normals ? run_projector<MODEL, true, false> : run_projector<MODEL, false, false>;
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

static int count_bands(const Arguments& args) { return (int)((args.height + args.band_rows - 1) / args.band_rows); }
static int count_bins(const Arguments& args) { return count_bands(args) * (int)(2 * args.levels); }

// Keeps those of a lane that are drawn, or look. Each is written whether it is kept or not: a branch here would be
// guessed wrong half of the time.
static int keep_hits(const Arguments& args, int64 view, const Lane& lane, Hit* found, unsigned short* bin, int count) {
    const int shift = __builtin_ctz((unsigned)args.band_rows), most = (int)args.levels;
    const byte* ghosts = args.ghosts ? args.ghosts + view * args.points : nullptr;
    for (int i = 0; i < lane.count; ++i) {
        const int levels = lane.levels[i], kind = most - levels + (ghosts && ghosts[lane.point[i]] ? most : 0);
        found[count] = {lane.point[i], (unsigned short)lane.x[i], (unsigned short)lane.y[i], lane.z[i]};
        bin[count] = (unsigned short)((lane.y[i] >> shift) * 2 * most + kind);
        count += levels > 0;
    }
    return count;
}

// Projects the points of a chunk; returns how many hits there are.
static int find_hits(const Arguments& args, const View& c, int64 view, const Run* runs, const ChunkRange& chunk,
                     RunReader read, Hit* found, unsigned short* bin) {
    Lane lane;
    lane.count = 0;
    int count = 0;
    for (int64 r = chunk.run_first; r < chunk.run_last; ++r) {
        const Run& run = runs[r];
        const bool last = r + 1 == chunk.run_last;
        if (args.xyz && !last) {
            prefetch(args.xyz + 3 * runs[r + 1].first, 3 * sizeof(real) * runs[r + 1].count);
            prefetch(args.radius + runs[r + 1].first, sizeof(real) * runs[r + 1].count);
        }
        read(args, c, view, run, lane);
        for (int i = 0; i < run.count; ++i) lane.point[lane.count + i] = (int)(run.first + i);
        lane.count += run.count;
        if (!last && lane.count + runs[r + 1].count <= RUN) continue;
        if (args.xyz) test_lane(c, lane);
        place_lane(args, lane);
        count = keep_hits(args, view, lane, found, bin, count);
        lane.count = 0;
    }
    return count;
}

static void fill_chunk(const Arguments& args, const View& c, int64 view, const Run* runs, const ChunkRange& chunk,
                       int64 index, RunReader read) {
    Hit found[CHUNK_HITS + 1];
    unsigned short bin[CHUNK_HITS + 1];
    const int bins = count_bins(args), count = find_hits(args, c, view, runs, chunk, read, found, bin);
    std::vector<int> start(bins + 1, 0);
    for (int i = 0; i < count; ++i) ++start[bin[i] + 1];
    for (int b = 0; b < bins; ++b) start[b + 1] += start[b];
    int64* offsets = args.offsets + view * (bins + 1) * args.chunks + index;
    for (int b = 0; b <= bins; ++b) offsets[b * args.chunks] = chunk.base + start[b];
    Hit* out = (Hit*)args.hits + chunk.base;
    for (int i = 0; i < count; ++i) out[start[bin[i]]++] = found[i];
    if (count < chunk.count) std::memset((void*)(out + count), 0, (chunk.count - count) * sizeof(Hit));
}

// Fills hits and offsets of all views; offsets must hold zeros.
static void bin_points(const Arguments& args, int threads, RunReader read, bool projected) {
    std::vector<Run> runs;
    std::vector<ChunkRange> chunks;
    int64 base = 0;
    for (int64 view = 0; view < args.views; ++view) {
        const View c = projected ? View() : load_view(args, view);
        plan_chunks(args, view, runs, chunks, base);
        if ((int64)chunks.size() > args.chunks) std::abort();  // the caller has promised room for all
        parallel_for((int64)chunks.size(), threads, [&](int64 i) {
            fill_chunk(args, c, view, runs.data(), chunks[i], i, read);
        });
        if (!chunks.empty()) base = chunks.back().base + chunks.back().count;
    }
}

// The rows that a band covers at one level, in scratch.
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

DEVICE int64 cell_of(const BandLevel& b, const Hit& hit, int level) {
    return b.first + (int64)((hit.y >> level) - b.row_first) * b.columns + (hit.x >> level);
}

// Calls body(hit) for the hits of one class of a band, in their order; returns whether there were any.
// FEATURES: the body reads the features of the hits.
template <bool FEATURES, class Body>
DEVICE bool for_each_hit(const Arguments& args, int64 view, int64 band, int64 kind, const Body& body) {
    const int64* begin = args.offsets + (view * (count_bins(args) + 1) + band * 2 * args.levels + kind) * args.chunks;
    const int64* end = begin + args.chunks;
    const Hit* hits = (const Hit*)args.hits;
    bool any = false;
    for (int64 chunk = 0; chunk < args.chunks; ++chunk) {
        if (chunk && !end[chunk]) break;  // only chunks that were never filled end at 0
        any |= begin[chunk] < end[chunk];
        for (int64 i = begin[chunk]; i < end[chunk]; ++i) {
            if (FEATURES) __builtin_prefetch(args.features + (int64)hits[std::min(i + 12, end[chunk] - 1)].point * args.channels);
            body(hits[i]);
        }
    }
    return any;
}
